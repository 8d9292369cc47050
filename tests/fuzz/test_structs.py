"""Bytes from the kernel and from other processes: events, origins, speakers, what a worker says and what a client of the agent says."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from fuzz.campaign import mutate
from fuzz.corpus import lines, seeds, spoilt
from stockade.kernel import denials, syscall
from stockade.kernel.abi import SCRIPT_PATH, Event, FileFacts, Origin, Speaker, address_of
from stockade.kernel.events import Ring
from stockade.proxy import codec
from stockade.types import Http
from unit.kernel.test_denials import HEAD, SAID
from unit.proxy.test_wire import ORIGIN, RECORD
from unit.service.test_control import said, served

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="a ring buffer map is root's to make")
EVENTS, ORIGINS = seeds("event"), seeds("origin")


def test_events() -> None:
    """A value or ValueError; what it says is in the bytes, and no length in them leads out of them."""

    def check(data: bytes) -> None:
        try:
            event = Event.decode(data)
        except ValueError:
            return
        fields = Event.LAYOUT.unpack_from(data)
        assert (event.type, event.verdict, event.why) == fields[:3]
        assert (event.port, event.protocol, event.sandbox, event.generation, event.identity, event.name, event.pid) == fields[4:11]
        assert (event.time, event.exec_id, event.parent_exec_id, event.cookie) == fields[12:16]
        assert event.address == address_of(fields[3], fields[16])
        assert event.tail == data[Event.LAYOUT.size :][: fields[11]]
        assert "\0" not in event.variable and "=" not in event.variable

    for seed in EVENTS:
        assert Event.decode(seed)
        check(seed)
    mutate(spoilt(EVENTS), check)


def test_what_the_kernels_audit_says() -> None:
    """A value or ValueError; numbers of the kernel's size, rights that are words, a path that fits a record."""

    def check(drawn: tuple[int, bytes]) -> None:
        try:
            told = denials.parse(*drawn)
        except ValueError:
            return
        assert 0 <= told.domain < 2**64 and (drawn[0] == denials.ACCESS) is isinstance(told, denials.Denial)
        if isinstance(told, denials.Denial):
            assert told.blockers and all(word.replace("_", "").replace(".", "").isalpha() for word in told.blockers)
            assert len(told.path) < SCRIPT_PATH
        elif isinstance(told, denials.Domain):
            assert min(told.pid, told.user) >= 0

    messages = [HEAD + said for _, said, _ in SAID]
    mutate(st.tuples(st.sampled_from([denials.ACCESS, denials.DOMAIN, 0]), spoilt(messages)), check, examples=1000)


@ROOT_ONLY
def test_the_ring_goes_on_after_any_event() -> None:
    """Each is delivered or counted; one that makes the receiver fail is counted too, and does not end the reading."""
    delivered: list[Event] = []

    def deliver(event: Event) -> None:
        delivered.append(event)
        if event.port & 1:
            raise ArithmeticError("a fault of the receiver's")

    descriptor = syscall.map_create(syscall.MapShape("fuzz", syscall.MAP_TYPE_RINGBUF, 0, 0, 4096, 0))
    ring = Ring(descriptor, deliver)
    try:

        def check(data: bytes) -> None:
            delivered.clear()
            before = dict(ring.lost)
            ring._left = 2
            buffer = ctypes.create_string_buffer(data, len(data))
            assert ring._received(None, ctypes.addressof(buffer), len(data)) == 0
            assert len(delivered) + ring.lost["malformed"] - before["malformed"] == 1
            assert ring.lost["undelivered"] - before["undelivered"] == sum(event.port & 1 for event in delivered)
            assert ring._left == 1  # whatever became of it: a flood of such events must not keep the loop from all else

        for seed in EVENTS:
            check(seed)
        mutate(spoilt(EVENTS), check)
    finally:
        ring.close()
        os.close(descriptor)


def test_origins() -> None:
    """Exactly one length, a family that there is, and every field back where it came from."""

    def check(data: bytes) -> None:
        try:
            origin = Origin.decode(data)
        except ValueError:
            return
        fields = Origin.LAYOUT.unpack(data)
        assert (origin.sandbox, origin.identity, origin.exec_id, origin.pid, origin.name, origin.generation, origin.port) == fields[:7]
        assert origin.verdict == fields[8] and origin.cookie == fields[10]
        assert fields[7] == origin.address.version and origin.address == address_of(fields[7], fields[9])
        assert codec.decode_origin(json.loads(json.dumps(codec.encode_origin(origin)))) == origin
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(ValueError, match="struct origin has"):
                Origin.decode(wrong)

    for seed in ORIGINS:
        assert Origin.decode(seed)
        check(seed)
    mutate(spoilt(ORIGINS), check)


def test_speakers_and_files() -> None:
    def check(data: bytes) -> None:
        for kind in (Speaker, FileFacts):
            if len(data) == kind.LAYOUT.size:
                kind.decode(data)
                continue
            with pytest.raises(ValueError):
                kind.decode(data)

    sizes = st.sampled_from([Speaker.LAYOUT.size, FileFacts.LAYOUT.size]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
    mutate(sizes | st.binary(max_size=100), check, examples=200)


# what a worker may say

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def lied(draw: st.DrawFn, honest: dict[str, Any]) -> dict[str, Any]:
    """A message of a worker with some of its fields, also inner ones, gone or replaced by any JSON."""
    message: dict[str, Any] = json.loads(json.dumps(honest))
    for _ in range(draw(st.integers(0, 3))):
        place = message
        while inner := [value for value in place.values() if isinstance(value, dict) and value and draw(st.booleans())]:
            place = inner[0]
        if not place:
            break
        key = draw(st.sampled_from(sorted(place)))
        if draw(st.booleans()):
            place[key] = draw(JSON)
        else:
            del place[key]
    return message


def test_records_of_a_worker() -> None:
    """ValueError, or a record that says again what the message said: nothing is believed that the encoder would not have written."""

    def check(message: dict[str, Any]) -> None:
        try:
            record = codec.decode_record(message)
        except ValueError:
            return
        again = codec.encode_record(record)
        assert codec.decode_record(json.loads(json.dumps(again))) == record

    mutate(lied(codec.encode_record(RECORD)), check)


def test_origins_of_a_worker() -> None:
    honest = codec.encode_origin(ORIGIN)

    def check(message: dict[str, Any]) -> None:
        try:
            origin = codec.decode_origin(message)
        except ValueError:
            return
        assert codec.encode_origin(origin) == {key: message[key] for key in honest}

    addresses = ["fe80::1%eth0", "::1%" + "x" * 300, "FD57::1", "::ffff:192.0.2.1", "192.0.2.1", "1", " 192.0.2.1", "0300.0.0.1"]
    for address in addresses:
        check(honest | {"address": address})
    mutate(st.sampled_from(addresses).map(lambda address: honest | {"address": address}) | lied(honest), check)


def test_other_words_of_a_worker() -> None:
    def check(message: Any) -> None:
        for decode in (codec.decode_passed, lambda it: codec.decode_http({"http": it}, "http")):
            try:
                value = decode(message if isinstance(message, dict) else {"sent": message})
            except ValueError:
                continue
            assert value is None or len(value.path if isinstance(value, Http) else value.reason) <= codec.TEXT

    mutate(JSON | lied({"sent": 1, "received": 2, "reason": "rule_allow"}) | lied({"method": "GET", "path": "/"}), check)


@ROOT_ONLY
def test_lines_at_the_control_socket(tmp_path: Path) -> None:
    """Every whole line has one answer, in JSON and in order, and the socket goes on answering."""
    good = b'{"v": 1, "verb": "echo", "arguments": {"mark": 7}}\n'

    def check(drawn: list[bytes]) -> None:
        asked = [line.replace(b"\n", b" ") + b"\n" for line in drawn]

        async def work(control: Any) -> list[Any]:
            return await asyncio.to_thread(said, control.path, *asked, good)

        answers = served(tmp_path / "control", work)
        assert len(answers) == len(asked) + 1 and answers[-1]["answer"]["arguments"] == {"mark": 7}
        for answer in answers[:-1]:
            assert answer["v"] == 1 and (answer["ok"] or {"message", "hint", "code"} == answer["error"].keys())

    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b'{"v": 1, "verb": "echo", "arguments": {"a": ' + b"9" * 5000 + b"}}"])
    mutate(st.lists(spoilt(lines("control")) | deep, min_size=1, max_size=12), check, examples=60)
