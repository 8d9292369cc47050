"""What reaches each product over HTTP, framed as it wants it; and what happens when it does not take it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import Trail
from stockade.audit.sinks.cursor import Position
from stockade.audit.sinks.deliver import Delivery
from stockade.audit.sinks.process import deliver, made
from stockade.settings.sinks import Batch
from stockade.settings.sinks import Sink as Rules
from stockade.types import StockadeError
from unit.audit.samples import BOX, connect
from unit.audit.sinks import receivers
from unit.audit.sinks.receivers import Receiver

SENTINEL = {"tenant": "tenant-1", "client": "app-1", "rule": "dcr-1", "stream": "Custom-Stockade"}
PRODUCTS: dict[str, dict[str, Any]] = {
    "splunk": {"index": "main"},
    "elastic": {},
    "datadog": {"tags": {"env": "test"}},
    "sentinel": SENTINEL,
    "logscale": {"tags": {"env": "test"}},
    "webhook": {"headers": {"X-Org": "7"}},
    "otlp": {},
}


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    found = Receiver(getattr(receivers, request.param))
    yield found
    found.close()


def rules(product: str, at: Receiver, tmp_path: Path, **more: Any) -> Rules:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s3cret\n")
    secret = f"file:{token}"
    url = f"{at.url}/hook?team=a" if product == "webhook" else at.url
    about = {"batch": Batch(records=7, wait=0.02), "url": url} | PRODUCTS[product] | more
    if product == "otlp":
        return Rules("otlp", "otlp", headers={"X-Key": secret}, **about)
    return Rules("http", product, product=product, token=secret, login=at.url, **about)


def write(path: Path, count: int) -> None:
    trail = Trail.open(path)
    for number in range(count):
        trail.append(BOX, connect(f"host{number}.example"))
    trail.close()


def run(path: Path, wanted: Rules, *, drain: float = 20) -> Delivery:
    """Deliver what is there, and end."""
    ((delivery, thread),) = deliver(path, [wanted], Position())
    delivery.stop(drain)
    thread.join(60)
    assert not thread.is_alive()
    return delivery


@pytest.mark.parametrize(("product", "receiver"), [(name, name) for name in PRODUCTS], indirect=["receiver"])
def test_every_record_arrives_in_order_as_the_product_wants_it(product: str, receiver: Receiver, path: Path, tmp_path: Path) -> None:
    write(path, 30)
    delivery = run(path, rules(product, receiver, tmp_path))
    assert receiver.seqs() == list(range(1, 31)), receiver.requests[-1]
    assert (delivery.sent, delivery.lost, delivery.retried, delivery.failing) == (30, 0, 0, "")
    wanted = [json.loads(line) for line in path.read_bytes().splitlines() if b'"checkpoint"' not in line]
    assert [{name: one[name] for name in wanted[0]} for one in receiver.records] == wanted, "as it stands in the trail"


@pytest.mark.parametrize(("product", "receiver"), [(name, name) for name in PRODUCTS], indirect=["receiver"])
@pytest.mark.parametrize("fault", [503, 401, 302])
def test_what_a_receiver_does_not_take_for_a_while_comes_later_in_order(
    product: str, receiver: Receiver, path: Path, tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.audit.sinks.deliver._FIRST", 0.01)
    write(path, 10)
    receiver.faults = [(fault, b"no", {"Location": "http://127.0.0.1:9/"})] * 3
    delivery = run(path, rules(product, receiver, tmp_path))
    assert receiver.seqs() == list(range(1, 11))
    assert (delivery.lost, delivery.retried, delivery.failing) == (0, 3, "")


@pytest.mark.parametrize("receiver", ["webhook"], indirect=True)
def test_retry_after_is_kept(receiver: Receiver, path: Path, tmp_path: Path) -> None:
    write(path, 1)
    receiver.faults = [(429, b"", {"Retry-After": "1"})]
    began = time.monotonic()
    run(path, rules("webhook", receiver, tmp_path))
    assert receiver.seqs() == [1] and time.monotonic() - began >= 1


@pytest.mark.parametrize("receiver", ["splunk"], indirect=True)
def test_one_record_that_is_never_taken_is_given_up_alone(receiver: Receiver, path: Path, tmp_path: Path) -> None:
    write(path, 20)
    judge = receiver.judge

    def picky(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Any:
        return (400, b'{"text":"Invalid data format","code":6}') if b'"host9.example"' in body else judge(at, path, headers, body)

    receiver.judge = picky
    delivery = run(path, rules("splunk", receiver, tmp_path))
    assert receiver.seqs() == [seq for seq in range(1, 21) if seq != 10]
    assert (delivery.sent, delivery.lost, delivery.news(), delivery.news()) == (19, 1, 1, 0)


@pytest.mark.parametrize("receiver", ["elastic"], indirect=True)
def test_documents_that_elasticsearch_takes_only_in_part(
    receiver: Receiver, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is refused for ever, one for now, one is there already: three fates in one answer of 200."""
    monkeypatch.setattr("stockade.audit.sinks.deliver._FIRST", 0.01)
    write(path, 4)
    items = [{"create": {"status": status, "error": {"type": "x"}}} for status in (400, 429, 409)] + [{"create": {"status": 201}}]
    receiver.faults = [(200, json.dumps({"errors": True, "items": items}).encode())]
    delivery = run(path, rules("elastic", receiver, tmp_path))
    assert receiver.seqs() == [2], "the second is all that is sent again"
    assert (delivery.sent, delivery.lost, delivery.retried) == (3, 1, 1)


@pytest.mark.parametrize("receiver", ["elastic"], indirect=True)
def test_a_batch_that_is_sent_twice_is_stored_once(receiver: Receiver, path: Path, tmp_path: Path) -> None:
    write(path, 5)
    wanted = rules("elastic", receiver, tmp_path)
    run(path, wanted)
    Path(f"{path}.elastic.sink").unlink()  # the machine died before it was written down
    assert run(path, wanted).lost == 0
    assert receiver.seqs() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("receiver", ["sentinel"], indirect=True)
def test_a_token_is_asked_for_once_and_again_when_it_is_refused(
    receiver: Receiver, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.audit.sinks.deliver._FIRST", 0.01)
    write(path, 30)
    wanted = rules("sentinel", receiver, tmp_path)
    run(path, wanted)
    assert [request[0].endswith("/token") for request in receiver.requests] == [True] + [False] * 5
    write(path, 1)
    receiver.requests.clear()
    judge, refused = receiver.judge, []

    def revoked(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Any:
        if path.startswith("/data") and not refused:
            refused.append(path)
            return 401, b""
        return judge(at, path, headers, body)

    receiver.judge = revoked
    run(path, wanted)
    assert [request[0].endswith("/token") for request in receiver.requests] == [True, False, True, False]
    assert len(receiver.records) == 31


@pytest.mark.parametrize("receiver", ["webhook"], indirect=True)
def test_where_nobody_listens_records_wait(receiver: Receiver, path: Path, tmp_path: Path) -> None:
    write(path, 3)
    wanted = rules("webhook", receiver, tmp_path, timeout=1.0)
    receiver.close()
    delivery = run(path, wanted, drain=0.5)
    assert (delivery.sent, delivery.lost) == (0, 0) and "refused" in delivery.failing and delivery.retried
    again = Receiver(receivers.webhook)
    try:
        assert run(path, rules("webhook", again, tmp_path)).sent == 3
        assert again.seqs() == [1, 2, 3]
    finally:
        again.close()


@pytest.mark.parametrize("receiver", ["webhook"], indirect=True)
def test_a_sink_that_is_too_far_behind_gives_up_the_oldest_and_counts_it(
    receiver: Receiver, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.audit.sinks.deliver._FIRST", 0.01)
    write(path, 100)
    receiver.faults = [(503, b"")]
    delivery = run(path, rules("webhook", receiver, tmp_path, behind=20_000))
    assert delivery.lost > 50 and delivery.sent + delivery.lost == 100
    assert receiver.seqs() == list(range(delivery.lost + 1, 101)), "the newest, in order"


def secret_open(tmp_path: Path) -> str:
    (tmp_path / "open").write_text("x")
    (tmp_path / "open").chmod(0o644)
    return f"file:{tmp_path}/open"


def secret_lines(tmp_path: Path) -> str:
    (tmp_path / "lines").write_text("x\nHost: y\n")
    (tmp_path / "lines").chmod(0o600)
    return f"file:{tmp_path}/lines"


@pytest.mark.parametrize("place", [secret_open, secret_lines, lambda _: "file:/nonexistent", lambda _: "env:STOCKADE_NO_SUCH_VARIABLE"])
def test_a_secret_that_is_none_keeps_the_sandbox_from_starting(place: Callable[[Path], str], tmp_path: Path) -> None:
    with pytest.raises(StockadeError) as error:
        made(Rules("http", "splunk", product="splunk", url="https://127.0.0.1", token=place(tmp_path)), tmp_path / "t")
    assert error.value.code == "sink_secret" and error.value.hint


def test_so_do_certificates_that_are_none(tmp_path: Path) -> None:
    from stockade.settings.sinks import Tls

    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(StockadeError) as error:
        made(Rules("http", "webhook", product="webhook", url="https://127.0.0.1", tls=Tls(tmp_path / "ca.pem")), tmp_path / "t")
    assert error.value.code == "sink_tls"
