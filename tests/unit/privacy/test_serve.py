"""The classifier's process, the real one: what it is allowed, what it answers, and what its end means for those who wait."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stockade.privacy import deadline
from stockade.privacy.dictionary import Custom
from stockade.privacy.documents import registry
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import canary
from stockade.privacy.serve import terms, wire
from stockade.privacy.serve.batch import InSegments, Remembering, Together
from stockade.privacy.serve.client import Client, Failed
from stockade.privacy.serve.launch import follow, launch
from stockade.privacy.serve.process import READERS, STUCK, WAITING
from stockade.privacy.settings import Settings
from stockade.service.settings import Settings as Service

CARD = "card 4111 1111 1111 1111"
PLAIN = Settings()


def with_client(work: Callable[[Client, subprocess.Popen[bytes]], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        launched = launch(Service().classifier_user)
        client = Client()
        client.attach(launched.channel)
        try:
            await work(client, launched.process)
        finally:
            launched.registry.close()
            launched.process.kill()
            launched.process.wait()

    asyncio.run(run())


def test_findings_come_back_for_each_text_and_under_the_settings_sent() -> None:
    async def work(client: Client, _process: subprocess.Popen[bytes]) -> None:
        own = Settings(custom=(Custom("ward", "W-[0-9]{4}", "phi.identifier"),))
        first, second = await client.classify([CARD, "ward W-1234"], own, seconds=30)
        assert [each.category for each in first] == ["financial.card"]
        assert [(each.category, each.detector) for each in second] == [("phi.identifier", "custom:ward")]
        (plain,) = await client.classify(["ward W-1234"], PLAIN, seconds=30)
        assert not [each for each in plain if each.detector == "custom:ward"]
        assert client.counters.answered == 2
        assert client.hello is not None
        assert client.counters.provider == client.hello.provider

    with_client(work)


@pytest.mark.root
def test_it_has_given_up_everything() -> None:
    async def work(client: Client, process: subprocess.Popen[bytes]) -> None:
        await client.classify([CARD], PLAIN, seconds=30)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {str(Service().classifier_user)}
        assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)) == ("1", "2", 0)
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            assert "Seccomp:\t2" in (thread / "status").read_text()
        held = [str(each.readlink()) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [each for each in held if each.startswith("/") and each != "/dev/null" and "(deleted)" not in each]

        assert Path(f"/proc/{process.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    if os.geteuid() != 0:
        pytest.skip("not root")
    with_client(work)


def test_its_end_is_a_failure_to_all_who_wait_and_another_takes_its_place() -> None:
    async def work(client: Client, process: subprocess.Popen[bytes]) -> None:
        await client.classify([CARD], PLAIN, seconds=30)
        waiting = [asyncio.ensure_future(client.classify([f"{number} {CARD} " * 20_000], PLAIN, seconds=30)) for number in range(3)]
        await asyncio.sleep(0)
        process.kill()
        for each in waiting:
            with pytest.raises(Failed, match=r"lost|no_classifier"):
                await each
        with pytest.raises(Failed, match="no_classifier"):
            await client.classify([CARD], PLAIN, seconds=30)
        another = launch(Service().classifier_user)
        client.attach(another.channel)
        assert len((await client.classify([CARD], PLAIN, seconds=30))[0]) == 1
        another.registry.close()
        another.process.kill()
        another.process.wait()

    with_client(work)


def test_who_waits_longer_than_allowed_has_a_failure() -> None:
    async def work(client: Client, _process: subprocess.Popen[bytes]) -> None:
        with pytest.raises(Failed, match="timeout"):
            await client.classify([CARD], PLAIN, seconds=0.001)
        assert client.counters.failed == {"timeout": 1}

    with_client(work)


@pytest.mark.parametrize(
    "frame",
    [
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"id":1,"texts":"x","lanes":[],"settings":"k","seconds":1}',
        b'{"id":1,"texts":["x"],"lanes":[[7]],"settings":"k","seconds":1}',
        b'{"id":-1,"texts":["x"],"lanes":[],"settings":"k","seconds":1}',
        b'{"settings":"k","value":{"thresholds":[["x","y"]],"dictionaries":[],"custom":[]}}',
    ],
)
def test_a_frame_that_nobody_of_ours_sends_ends_it(frame: bytes) -> None:
    launched = launch(Service().classifier_user)
    with launched.channel as sock, launched.registry:
        sock.sendall(len(frame).to_bytes(4, "big") + frame)
        assert launched.process.wait(30) == 4


@pytest.mark.parametrize(
    "found",
    [
        [],
        [[[0, 99, "pii.person", "x", 1.0]]],
        [[[1, 1, "pii.person", "x", 1.0]]],
        [[[0, 1, "none", "x", 1.0]]],
        [[[0, 1, "pii.person", "x", 7]]],
    ],
)
def test_findings_that_do_not_fit_the_texts_are_not_believed(found: list[Any]) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        client = Client()
        client.attach(ours)
        with theirs:
            hello = wire.dump({"hello": wire.encode_hello(wire.Hello(None, None, {}, {}))})
            theirs.sendall(len(hello).to_bytes(4, "big") + hello)
            asked = asyncio.ensure_future(client.classify(["abc"], PLAIN, seconds=10))
            while not client._waiting:
                await asyncio.sleep(0.01)
            told = wire.dump({"id": 1, "findings": found})
            theirs.sendall(len(told).to_bytes(4, "big") + told)
            with pytest.raises(Failed, match="nonsense"):
                await asked

    asyncio.run(run())


def test_what_is_registered_later_is_found_at_once_also_in_what_was_read_before(tmp_path: Path) -> None:
    """An old answer is not given again, and the version says which registry it was; a damaged one is a layer that is missing."""
    path, marked = tmp_path / "registry.json", canary.make()
    secret = "The blend is aged for nine winters in barrels of wild cherry and turned by hand at every second full moon of the year."

    async def until(client: Client, expected: Callable[[], bool]) -> None:
        for _ in range(600):
            if expected():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(client.hello)

    async def run() -> None:
        launched, client = launch(Service().classifier_user), Client()
        client.attach(launched.channel)
        following = asyncio.ensure_future(follow(launched.registry, path))
        try:
            plain, named = await client.classify([secret, marked], PLAIN, seconds=30)
            assert not [each for each in plain if each.category == "ip.document"]
            assert "canary:unregistered" in [each.detector for each in named]
            await until(client, lambda: client.hello is not None)
            assert client.hello is not None
            before = client.hello
            with registry.changed(path) as known:
                document = known.register("blend.txt", secret, "now")
                known.canaries["billing"] = registry.Canary("billing", "now", canary.digest(marked))
            await until(client, lambda: client.hello is not before)
            plain, named = await client.classify([secret, marked], PLAIN, seconds=30)
            assert f"document:{document.id}" in [each.detector for each in plain]
            assert "canary:billing" in [each.detector for each in named]
            changed = {name for name, version in client.hello.detectors.items() if before.detectors[name] != version}
            assert changed == {"credential", "document"}
            path.write_text("{")
            await until(client, lambda: client.hello is not None and "registry" in client.hello.missing)
            path.unlink()
            await until(client, lambda: client.hello is not None and "registry" not in client.hello.missing)
            assert not [each for each in (await client.classify([secret], PLAIN, seconds=30))[0] if each.category == "ip.document"]
        finally:
            following.cancel()
            launched.process.kill()
            launched.process.wait()

    asyncio.run(run())


def test_settings_survive_the_way() -> None:
    settings = Settings((("pii.*", 0.7),), (), (Custom("a", "b", "ip.document"),))
    assert terms.decode(wire.load(wire.dump(terms.encode(settings)))) == settings


class Counting:
    name, version = "counting", "1"

    def __init__(self) -> None:
        self.read: list[str] = []

    def find(self, texts: list[str]) -> list[list[Finding]]:
        self.read += texts
        return [[Finding(0, len(text), "pii.person", "counting", 1.0)] if text else [] for text in texts]


def test_a_text_seen_before_is_not_read_again() -> None:
    counting = Counting()
    remembering = Remembering(counting, texts=2)  # type: ignore[arg-type]
    assert remembering.find(["a", "bb", "a"]) == counting.find(["a", "bb", "a"])
    counting.read.clear()
    assert [len(found) for found in remembering.find(["bb", "a", "c"])] == [1, 1, 1]
    assert counting.read == ["c"]
    remembering.find(["a", "bb"])
    assert counting.read == ["c", "a"] or counting.read == ["c", "bb"]


def test_a_long_text_is_read_in_pieces_each_value_whole_in_one() -> None:
    class Words:
        name, version = "words", "1"
        read: list[str] = []  # noqa: RUF012

        def find(self, texts: list[str]) -> list[list[Finding]]:
            self.read += texts
            return [
                [Finding(at, at + 6, "pii.person", "words", 1.0) for at in range(len(text)) if text.startswith("secret", at)]
                for text in texts
            ]

    words = Words()
    texts = ["x" * 95 + "secret" + "y" * 200 + "secret", "", "secret", "z" * 400]
    found = InSegments(words, characters=100, overlap=20).find(texts)  # type: ignore[arg-type]
    assert [[(each.start, each.end) for each in findings] for findings in found] == [[(95, 101), (301, 307)], [], [(0, 6)], []]
    assert max(map(len, words.read)) == 100
    with deadline.until(0), pytest.raises(deadline.Late):
        InSegments(words).find(texts)  # type: ignore[arg-type]


def test_a_text_for_which_nobody_waits_any_more_holds_up_nobody_else() -> None:
    async def work(client: Client, _process: subprocess.Popen[bytes]) -> None:
        await client.classify([CARD], PLAIN, seconds=30)
        with pytest.raises(Failed, match=r"timeout|deadline"):
            await client.classify(["a report of the week " * 100_000], PLAIN, seconds=1)
        assert len((await client.classify([f"another {CARD}"], PLAIN, seconds=30))[0]) == 1

    with_client(work)


@pytest.mark.parametrize("unit", ["4111 1111 1111 1111 ", "\u0430a\u0301"], ids=["cards", "letters"])
def test_texts_made_to_be_slow_give_every_reader_back(unit: str) -> None:
    """One more than there are readers: who is asked next is answered by the same process, which did not have to be ended."""

    async def work(client: Client, process: subprocess.Popen[bytes]) -> None:
        await client.classify([CARD], PLAIN, seconds=30)
        asked = [client.classify([f"{number} {unit * (2_000_000 // len(unit))}"], PLAIN, seconds=1) for number in range(READERS + 1)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(each) for each in told if isinstance(each, Failed)} <= {"timeout", "deadline"}
        assert any(isinstance(each, Failed) for each in told)
        assert len((await client.classify([f"one more {CARD}"], PLAIN, seconds=STUCK))[0]) == 1
        assert process.poll() is None

    with_client(work)


def test_more_than_may_wait_is_refused_at_once_and_nothing_is_answered_wrongly() -> None:
    async def work(client: Client, _process: subprocess.Popen[bytes]) -> None:
        await client.classify([CARD], PLAIN, seconds=30)
        asked = [client.classify([f"{number} is no card, and {CARD} is"], PLAIN, seconds=300) for number in range(4 * WAITING)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        failed = [each for each in told if isinstance(each, BaseException)]
        assert failed
        assert {str(each) for each in failed} == {"overload"}
        assert all(
            "financial.card" in [each.category for each in findings[0]] for findings in told if not isinstance(findings, BaseException)
        )
        assert client.counters.failed == {"overload": len(failed)}
        assert len((await client.classify([CARD], PLAIN, seconds=30))[0]) == 1

    with_client(work)


def test_what_waits_for_the_model_is_one_batch() -> None:
    """The model is held in what it is given first until all the others wait."""
    batches: list[int] = []

    class Held(Counting):
        def find(self, texts: list[str]) -> list[list[Finding]]:
            while not batches and len(texts) + len(together._waiting) < 19:
                time.sleep(0.001)
            batches.append(len(texts))
            return super().find(texts)

    together = Together(Held(), characters=10_000)  # type: ignore[arg-type]

    async def run() -> list[list[list[Finding]]]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(19) as threads:
            asked = [loop.run_in_executor(threads, together.find, [f"{number}" * number]) for number in range(1, 20)]
            return await asyncio.gather(*asked)

    assert [found[0][0].end for found in asyncio.run(run())] == [len(f"{number}" * number) for number in range(1, 20)]
    assert (len(batches), sum(batches)) == (2, 19)
