"""What reading a call to a model costs: the whole way of one call with the privacy router and without it, and the classifier alone.

No prompt is asked twice: an agent's earlier turns would come from the verdict cache, and what is measured is what was never seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

from framework.internet import CLOUD
from framework.machine import Machine
from framework.policy import http, whole
from stockade.privacy.ner import MODEL, TokenModel
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.serve.client import Client
from stockade.privacy.serve.launch import launch
from stockade.privacy.settings import Settings
from stockade.privacy.wordpiece import WordPiece
from stockade.service.settings import Settings as Service

INSIDE = Path(__file__).parent / "inside"
PYTHON = "/usr/bin/python3"
HOST = CLOUD[0]
SIZES = (128, 512)  # tokens
CALLS = 200
_WORDS = re.findall(
    r"\w+",
    """the project needs a plan that every team can follow write down which steps come first and what each of them costs compare two
designs for a cache explain why one is faster list open questions and suggest how to test them before release keep sentences short use
plain language describe a small service that sorts messages by topic and stores results in a table show how errors are handled when
a disk is full or a network is slow then summarise in three lines what should be done next week""",
)


def prompts(tokens: int, count: int, seed: str) -> list[str]:
    """Prose of just so many tokens, in which nothing is sensitive; none is the same as another."""
    cut, dice, made = WordPiece.read(MODEL / "vocab.txt"), random.Random(seed), []
    for number in range(count):
        said = f"Task {dice.choice(_WORDS)} {number % 97}."
        while (held := cut.words(said)) and sum(len(word.pieces) for word in held) < tokens:
            said += " " + " ".join(dice.choices(_WORDS, k=12)).capitalize() + "."
        while sum(len(word.pieces) for word in held) > tokens:
            held.pop()
        made.append(said[: held[-1].end])
    return made


def calls(machine: Machine) -> Iterator[tuple[str, float, float]]:
    """What is measured, and milliseconds without and with the router; both are governed and inspected. Two rounds each, in turn; the better
    of the two.
    """
    rule = http("python3", HOST, methods=["POST"], name="models")
    policies = [whole(rule, allow=["python3"]), whole(rule, allow=["python3"], privacy={})]
    for tokens in SIZES:
        rounds: list[list[tuple[float, float]]] = [[], []]
        for turn in range(2):
            for number, policy in enumerate(policies):
                files = {
                    "asks.py": (INSIDE / "asks.py").read_text(),
                    "prompts.json": json.dumps(prompts(tokens, CALLS, f"{turn} {number}")),
                }
                done = machine.run([PYTHON, "asks.py", HOST, "prompts.json"], policy=policy, files=files, timeout=300)
                if done.status != 0:
                    raise SystemExit(f"bench: {done}")
                p50, p99 = map(float, done.stdout.split())
                rounds[number].append((p50, p99))
        (without50, without99), (with50, with99) = (min(each) for each in rounds)
        yield f"call, {tokens} tokens, than unread, p50", without50, with50
        yield f"call, {tokens} tokens, than unread, p99", without99, with99


def lines() -> Iterator[str]:
    """The detectors of forms alone, the model alone, and the classifier's process under load."""
    text = " ".join(prompts(128, 40, "patterns"))
    pieces = [text[at : at + 1000] for at in range(0, len(text) - 1000, 1000)]
    detectors = (Patterns(), Credentials())
    for detector in detectors:
        detector.find(pieces[:2])
    began = time.perf_counter()
    for piece in pieces:
        for detector in detectors:
            detector.find([piece])
    yield f"patterns and credentials: {(time.perf_counter() - began) * 1000 / len(pieces):.2f} ms per 1,000 characters of prose"
    model = TokenModel.load(threads=2)
    for tokens in SIZES:
        model.find(prompts(tokens, 3, "warm"))
        times = []
        for prompt in prompts(tokens, 60, "alone"):
            began = time.perf_counter()
            model.find([prompt])
            times.append((time.perf_counter() - began) * 1000)
        yield f"the model alone, {tokens} tokens: p50 {sorted(times)[30]:.1f} ms ({model.provider})"
    yield from asyncio.run(_together())


async def _together() -> list[str]:
    """128 tokens a prompt, so many at a time."""
    launched, client, said = launch(Service().classifier_user), Client(), []
    client.attach(launched.channel)
    try:
        for each in prompts(128, 5, "warm"):
            await client.classify([each], Settings(), seconds=60)
        for atonce in (1, 4, 16):
            waiting = iter(prompts(128, 160, f"together {atonce}"))

            async def work(left: Iterator[str] = waiting) -> None:
                for each in left:
                    await client.classify([each], Settings(), seconds=60)

            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(atonce)))
            said.append(f"the classifier, {atonce:2} at once: {160 / (time.perf_counter() - began):.0f} prompts of 128 tokens a second")
    finally:
        launched.registry.close()
        launched.process.kill()
        launched.process.wait()
    return said
