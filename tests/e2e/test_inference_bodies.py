"""Bodies that no client of a provider would send, through the real proxy and classifier: refused or read, and nobody dies of it."""

from __future__ import annotations

import base64
import gzip
import json
import zlib

import pytest

from framework.asked import ANTHROPIC, KEY, OPENAI, PYTHON, Request, chat, octets, policy, say
from framework.internet import Internet
from framework.machine import Machine

pytestmark = pytest.mark.client(PYTHON)
URL = f"https://{OPENAI}/v1/chat/completions"
SAID = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"the key is {KEY}"}]}
PLAIN = json.dumps(SAID).encode()
# Each holds the key somewhere: what is let pass without its being found was not read.
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "cut off": (PLAIN[:-2], {}),
    "two documents": (PLAIN + PLAIN, {}),
    "an octet after the end": (PLAIN + b"\0", {}),
    "a key twice": (PLAIN[:-1] + b', "messages": []}', {}),
    "a comment": (b"/**/" + PLAIN, {}),
    "single quotes": (PLAIN.replace(b'"', b"'"), {}),
    "nested": (b'{"messages": ' + b"[" * 100_000 + json.dumps(KEY).encode() + b"]" * 100_000 + b"}", {}),
    "nested in a text": (json.dumps({"messages": [{"role": "user", "content": "[" * 2_000 + KEY + "]" * 2_000}]}).encode(), {}),
    "a huge number": (PLAIN[:-1] + b', "seed": ' + b"9" * 100_000 + b"}", {}),
    "no number": (PLAIN[:-1] + b', "top_p": NaN}', {}),
    "a lone surrogate": (json.dumps({"model": "m", "messages": [{"role": "user", "content": f"\ud800 {KEY}"}]}).encode(), {}),
    "octets that are no UTF-8": (PLAIN.replace(b"the key", b"the \xff\xc3 key"), {}),
    "UTF-8 that is too long": (PLAIN.replace(b"A", b"\xc1\x81"), {}),
    "UTF-16": (PLAIN.decode().encode("utf-16"), {}),
    "UTF-16, said": (PLAIN.decode().encode("utf-16-le"), {"Content-Type": "application/json; charset=utf-16le"}),
    "UTF-7, said": (PLAIN, {"Content-Type": "application/json; charset=utf-7"}),
    "a mark of order": (b"\xef\xbb\xbf" + PLAIN, {}),
    "gzip, cut off": (gzip.compress(PLAIN)[:-5], {"Content-Encoding": "gzip"}),
    "gzip, and more": (gzip.compress(PLAIN) + b"more", {"Content-Encoding": "gzip"}),
    "gzip three times": (gzip.compress(gzip.compress(gzip.compress(PLAIN))), {"Content-Encoding": "gzip, gzip, gzip"}),
    "gzip, not said": (gzip.compress(PLAIN), {}),
    "deflate without a head": (zlib.compress(PLAIN, wbits=-15), {"Content-Encoding": "deflate"}),
    "a bomb": (gzip.compress(b'{"messages": "' + bytes(64 << 20), 9), {"Content-Encoding": "gzip"}),
    "an encoding nobody knows": (PLAIN, {"Content-Encoding": "lzma"}),
    "a form": (b"--x\r\n\r\n" + PLAIN + b"\r\n--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    "another key": (json.dumps({"model": "m", "messages": [], "context": KEY}).encode(), {}),
    "the key as a name": (json.dumps({"model": "m", "messages": [], KEY: 1}).encode(), {}),
    "a list": (b"[" + PLAIN + b"]", {}),
    "a word": (json.dumps(KEY).encode(), {}),
    "many pieces": (
        json.dumps({"model": "m", "messages": [{"role": "user", "content": each} for each in f"my key is {KEY} and so on"]}).encode(),
        {},
    ),
    "a long text": (
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "a b " * 3_000 + KEY}]}).encode(),
        {},
    ),
}


def test_no_body_passes_unread_and_nobody_dies_of_one(machine: Machine, internet: Internet) -> None:
    before = {host: len(internet.heard[host]) for host in (OPENAI, ANTHROPIC)}
    spoilt: list[Request] = [
        {"url": URL, "packed": base64.b64encode(body).decode(), "headers": {"Content-Type": "application/json"} | headers}
        for body, headers in BODIES.values()
    ]
    answers, result = say(machine, [*spoilt, chat("hello")], policy(), timeout=180)
    statuses = dict(zip([*BODIES, "hello"], [answer["status"] for answer in answers], strict=True))
    assert {name for name, status in statuses.items() if status != 403} == {"hello"}, statuses
    heard = [each for host, count in before.items() for each in internet.heard[host][count:]]
    assert len(heard) == 1
    assert KEY.encode() not in octets(heard)
    refused = result.select(action="inference", decision="deny")
    reasons = dict(zip(BODIES, [record["reason"] for record in refused], strict=True))
    assert set(reasons.values()) == {"privacy_unreadable", "privacy_default"}, reasons
    for name in ("deflate without a head", "many pieces", "a long text", "nested in a text"):
        assert reasons[name] == "privacy_default", (name, reasons[name])
    assert "ended" not in result.stderr  # no process had to be started again
    assert KEY not in result.audit.read_text()
