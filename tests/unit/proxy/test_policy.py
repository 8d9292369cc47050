"""The real policy behind the ladder, and behind a worker: presets decide as their authors mean on every spelling of a path."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from stockade.policy import decide, load
from stockade.proxy import Caller, Settings, Worker
from stockade.proxy.ladder import Admitted, Head, judge
from stockade.types import Binary, Reason

from .conftest import WORKER_GID, WORKER_UID, Pki, origin_of, refusal, serving


def admitted(preset: str, binary: str, host: str, method: str, path: str) -> bool:
    caller = Caller(Binary.named(binary), (), host, 443)
    head = Head(method, path, None, (("host", host),))
    return isinstance(judge(head, caller, load([], presets=[preset]), decide), Admitted)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/left-pad", True),
        ("/@scope%2fname", True),
        ("/@scope%2Fname", True),
        ("/@scope/name/-/name-1.0.0.tgz", True),
        ("/-/npm/v1/tokens", False),
        ("/%2d/npm/v1/tokens", False),
        ("/-%2fnpm%2fv1", False),
        ("/x/../-/npm", False),
        ("/-;x/npm", False),
        ("//-/npm", False),
    ],
)
def test_npm(path, expected):
    assert admitted("npm", "npm", "registry.npmjs.org", "GET", path) is expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/simple/six/", True),
        ("HEAD", "/simple/six/", True),
        ("POST", "/simple/six/", False),
        ("GET", "/simple/six/../../manage/", False),
        ("GET", "/simple/..%2fmanage", False),
        ("GET", "/simple/%2e%2e/_/oidc", False),
    ],
)
def test_pypi(method, path, expected):
    assert admitted("pypi", "pip", "pypi.org", method, path) is expected


def test_a_worker_decides_by_a_policy_that_was_sent_to_it(pki: Pki, tmp_path: Path):
    source = tmp_path / "policy.yaml"
    source.write_text(
        "- name: api\n  binary: {allow: [curl]}\n  destination: {allow: [a.example]}\n  port: [1]\n"
        "  method: {allow: [GET]}\n  path: {allow: [/v1/**], deny: [/v1/admin/*]}\n"
    )
    worker = Worker.fork(uid=WORKER_UID, gid=WORKER_GID, settings=Settings(trust=pki.bundle), origin_of=origin_of)

    async def main() -> None:
        policy = load([source])
        async with serving(worker, pki, policy, socket.IPPROTO_TCP) as world, asyncio.timeout(20):
            number, _ = await world.echo("a.example")
            (rule,) = policy.rules
            opened = dataclasses.replace(policy, rules=(dataclasses.replace(rule, ports=(world.port_of(number),)),), generation=2)
            await world.worker.reload(7, opened)
            for path, expected in (("/v1/x", 200), ("/v1/admin/x", 403), ("/v1%2fadmin/x", 403), ("/v2", 403)):
                status, body = await world.ask(number, f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\n\r\n")
                assert status == expected, path
            assert refusal(body) | {"rule": "api", "level": "path", "reason": "no_rule"} == refusal(body)
            other, _ = await world.echo("b.example")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await world.ask(other, "GET /v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n")
            assert (await world.spine.wait_for(Reason.NO_RULE)).rule == "api"

    asyncio.run(main())
