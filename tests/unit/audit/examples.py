"""One record for every action and decision, made by the functions of the product that make it, and sealed as a trail seals it."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import Any, cast

from stockade.audit.chain import GENESIS, seal
from stockade.audit.record import Json, describe
from stockade.kernel.abi import EventType, Origin, Verdict, Why
from stockade.kernel.denials import Denial, Domain
from stockade.kernel.opens import Opened
from stockade.kernel.refusals import Refusal as Counted
from stockade.policy import decide
from stockade.policy.summary import summary
from stockade.proxy.agent import Agent
from stockade.proxy.connection import Connection, Served
from stockade.proxy.exchange import _with_verdict, record_refusal
from stockade.proxy.ladder import Admitted, Head, Refusal, judge
from stockade.proxy.leaves import Leaves
from stockade.proxy.screen import Verdict as Found
from stockade.proxy.spine import Caller
from stockade.service import attempts, opened, refused
from stockade.service.governed import Governed
from stockade.service.inbound import Doors
from stockade.service.landlocked import Landlocked
from stockade.types import Action, Effect, Http, Level, Outcome, Reason, Record, Sandbox
from unit.dns.samples import World
from unit.service.samples import CURL, NUMBERS, POLICY, event, governed
from unit.service.test_desk import HOUR, Room
from unit.service.test_desk import refused as asked
from unit.service.test_generations import Scene

SHA = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
_UID = "0b5a1c7e-4a52-4c0f-9d5e-6f2f0b1e8c11"
POD = {
    "namespace": "team-a",
    "pod": "agent-0",
    "pod_uid": _UID,
    "node": "node1",
    "service_account": "runner",
    "container": "main",
    "container_id": "3f2a9c41be07",
    "image": "registry.example/agent:4",
}
_FILES = POLICY.replace("network:", "filesystem: {read: [/usr], count: [/usr/share/doc]}\nnetwork:")
_OBSERVING = POLICY.replace("name: test", "name: test\nmode: observe")
_WEBSOCKET = (("upgrade", "websocket"), ("connection", "upgrade"))


class _Notebook:
    """The agent, as far as a connection writes down what it refuses."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def record(self, _sandbox: int, record: Record) -> None:
        self.records.append(record)


def examples(directory: Path) -> dict[str, Json]:
    """By `action-decision`, or `action-decision-more` where one pair has several shapes. directory: for the policies' files."""
    made: dict[str, tuple[Governed, Record]] = {}
    box, observing = (_box(directory / name, text) for name, text in (("box", _FILES), ("observing", _OBSERVING)))
    known = {"identity": NUMBERS[CURL]}
    for name, record in _kernel(box, known).items():
        made[name] = box, record
    made["exec-deny-observed"] = (
        observing,
        attempts.record_of(event(EventType.EXEC, why=Why.UNLISTED, identity=0, tail=b"/tmp/x"), observing),
    )
    for name, record in (_dns() | _http(box) | _inference(box) | _policy(directory) | _lifecycle(box)).items():
        made[name] = box, record
    doors = Doors.__new__(Doors)
    doors._governed = box
    made["inbound-deny"] = box, doors._record(8080, "192.0.2.1", {"source": "192.0.2.7", "source_port": 40000})
    passed = dataclasses.replace(made["inbound-deny"][1], outcome=Outcome.ALLOW, effect=Effect.RELAY, reason=Reason.RULE_ALLOW)
    made["inbound-allow"] = box, dataclasses.replace(passed, detail=passed.detail | {"bytes_received": 120, "bytes_sent": 4096})
    pod = _box(directory / "pod", _FILES)
    pod.sandbox = Sandbox(pod.sandbox.id, f"agent-0-{_UID[:12]}", "coding-agent", 3, POD)
    made["websocket-deny-pod"] = pod, made["websocket-deny"][1]
    for name, record in _landlock(box).items():
        made[name] = box, record
    return _sealed(made, directory)


def _box(directory: Path, text: str) -> Governed:
    directory.mkdir()
    made, _ = governed(directory, text)
    made.sandbox = Sandbox("9f3ac2d1e0b4", "box-7f", "coding-agent", 3, {"agent": "claude-code", "team": "billing"})
    roster = made.roster.enrolments
    for number, enrolment in list(roster.items()):
        roster[number] = dataclasses.replace(enrolment, binary=dataclasses.replace(enrolment.binary, sha256=SHA))
    made.executed(3, dataclasses.replace(CURL, name="bash", names=frozenset({"bash"}), path="/usr/bin/bash"), 0)
    made.executed(4, made.roster.binary(NUMBERS[CURL]) or CURL, 3)
    for name in ("api.example.com", "bad.example.com"):
        made.publish(made.table.allocate(name), name)
    return made


def _numbers(box: Governed) -> list[int]:
    return [box.table.allocate(name) for name in ("api.example.com", "bad.example.com")]


def _kernel(box: Governed, known: dict[str, object]) -> dict[str, Record]:
    def told(kind: EventType, verdict: Verdict, why: Why = Why.POLICY, **fields: object) -> Record:
        return attempts.record_of(event(kind, verdict, why, **(known | fields)), box)

    (allowed, v4), (denied, other) = ((number, box.table.addresses(number)[0]) for number in _numbers(box))
    v6 = ipaddress.ip_address("2001:db8::7")
    refusal = Counted(1, 7, 4, NUMBERS[CURL], "mount", 1, b"", 3, 4242, 3)
    return {
        "exec-allow": told(EventType.EXEC, Verdict.INSPECT),
        "exec-deny": told(EventType.EXEC, Verdict.DENY, Why.UNLISTED, identity=0, tail=b"/tmp/built"),
        "exec-allow-variable": told(EventType.EXEC, Verdict.INSPECT, Why.LOADER_VARIABLE, tail=b"/usr/bin/curl", variable="LD_PRELOAD"),
        "connect-allow": told(EventType.CONNECT, Verdict.INSPECT, name=allowed, address=v4),
        "connect-deny": told(EventType.CONNECT, Verdict.DENY, name=denied, address=other),
        "connect-deny-literal": told(EventType.CONNECT, Verdict.DENY, address=ipaddress.ip_address("192.0.2.9"), port=22),
        "connect-allow-v6": told(EventType.CONNECT, Verdict.INSPECT, address=v6),
        "connect-deny-datagram": told(EventType.DATAGRAM, Verdict.DENY, Why.PROTOCOL, address=v6, protocol=17, port=53),
        "inbound-deny-bind": told(EventType.BIND, Verdict.DENY, Why.BIND, address=ipaddress.ip_address("0.0.0.0"), port=80),
        "syscall-deny-socket": told(EventType.SOCKET, Verdict.DENY, Why.PROTOCOL, port=3, protocol=1),
        "syscall-deny": refused.record_of(refusal, box),
        "file-deny": refused.record_of(dataclasses.replace(refusal, call="openat", error=13, path=b"/etc/shadow"), box),
        "file-deny-mapping": told(EventType.MAPPING, Verdict.DENY, Why.WRITABLE, tail=b"/tmp/evil.so"),
        "file-allow": opened.record_of(Opened(7, 0, NUMBERS[CURL], 12), box),
        "device-deny": told(EventType.DEVICE, Verdict.DENY, port=10, name=200, protocol=(2 << 8) | 2),
    }


def _landlock(box: Governed) -> dict[str, Record]:
    box.init = 4711
    said = [Domain(1, box.init, box.number), Denial(1, ("fs.write_file", "fs.truncate"), b"/work/kept"), Denial(1, ("scope.signal",))]
    (_, file), (_, signal) = Landlocked(0, None).records(said, {box.number: box})
    return {"file-deny-landlock": file, "syscall-deny-landlock": signal}


def _dns() -> dict[str, Record]:
    world = World()
    for name, kind in (("files.repo.test", "A"), ("exfil.attacker.test", "A"), ("files.repo.test", "TXT")):
        world.ask(name, kind)
    return dict(zip(("dns-allow", "dns-deny", "dns-deny-type"), world.records, strict=True))


def _http(box: Governed) -> dict[str, Record]:
    made: dict[str, Record] = {}
    for action, headers in (("http", ()), ("websocket", _WEBSOCKET)):
        connection, notebook, other = _connection(box)
        with connection.client, other:
            head = Head("GET", "/bot123456:AAE-xyz_0/getMe?token=s3cret", None, (("host", "api.example.com"), *headers))
            made[f"{action}-allow"] = dataclasses.replace(
                _admitted(connection, head), http=Http("GET", "/bot123456:AAE-xyz_0/getMe", 200, 0, 2048)
            )
            denied = dataclasses.replace(head, method="DELETE") if not headers else dataclasses.replace(head, path="/%2e%2e/../x?\x01")
            outcome = judge(denied, cast(Caller, connection.caller), box.policy, decide)
            assert isinstance(outcome, Refusal)
            refusal = dataclasses.replace(outcome, action=Action(action))
            asyncio.run(record_refusal(connection, denied.method, refusal))
            made[f"{action}-deny"] = notebook.records[-1]
    return made


def _inference(box: Governed) -> dict[str, Record]:
    connection, _, other = _connection(box)
    detail: dict[str, str | int | list[str]] = {
        "api": "openai_chat",
        "model": "gpt-5",
        "categories": ["phi.identifier 2", "pii.person 1"],
        "prompt_sha256": SHA,
        "tools": ["search"],
    }
    with connection.client, other:
        record = _admitted(connection, Head("GET", "/v1/chat/completions", None, (("host", "api.example.com"),)))
        record = dataclasses.replace(record, http=Http("POST", "/v1/chat/completions", 200, 812, 4096))
        taken, there = {"redacted": ["phi.identifier 2"]}, {"local_model": "llama3", "local_host": "localhost:11434"}
        redacted = Found(Effect.REDACT, Reason.PRIVACY_ROUTE, Action.INFERENCE, rule="phi", detail=detail | taken)
        local = Found(Effect.LOCAL, Reason.PRIVACY_ROUTE, Action.INFERENCE, rule="phi", detail=detail | there)
        denied = Found(Effect.REFUSE, Reason.PRIVACY_RESIDENCY, Action.INFERENCE, False, "phi", detail=detail)
        passed = Found(Effect.PASS, Reason.PRIVACY_PASS, Action.INFERENCE, detail=detail | {"categories": []})
        return {
            "inference-allow": _with_verdict(record, passed),
            "inference-allow-redact": _with_verdict(record, redacted),
            "inference-allow-local": _with_verdict(record, local),
            "inference-deny": _with_verdict(dataclasses.replace(record, http=Http("POST", "/v1/chat/completions", 403)), denied),
        }


def _policy(directory: Path) -> dict[str, Record]:
    made: dict[str, Record] = {}
    for name in ("scene", "room"):
        (directory / name).mkdir()
    box, maps = governed(directory / "scene")
    scene = Scene(directory / "scene", box, maps)
    reloaded = scene.switch(POLICY.replace("[GET]", "[GET, HEAD]"))
    made["policy-allow"] = dataclasses.replace(reloaded, detail=reloaded.detail | {"read_us": 1200, "switch_us": 300})
    made["policy-deny"] = scene.switch("version: 1\nname: test\nnetwork: [{nmae: x}]\n")
    box, maps = governed(directory / "room")
    box.executed(4, CURL, 0)
    room = Room(directory / "room", box, maps)

    async def answered(desk: Any) -> None:
        await desk.approve(desk.note(asked()), HOUR, "root")

    room.run(answered)
    approved = room.records[-1]
    made["policy-allow-approved"] = approved
    return made


def _lifecycle(box: Governed) -> dict[str, Record]:
    started: dict[str, str | int | list[str]] = {
        "command": ["claude", "--print", "sk-ant-0123456789abcdefghij"],
        "exec_backend": "lsm",
        "landlock": "ABI 6",
        "sources": [str(path) for path in box.policy.sources],
        **summary(box.policy),
    }
    return {
        "lifecycle-allow": Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.STARTED, detail=started),
        "lifecycle-allow-stopped": Record(Action.LIFECYCLE, Outcome.ALLOW, Effect.PASS, Level.STATIC, Reason.STOPPED, detail={"status": 0}),
        "lifecycle-deny": Record(
            Action.LIFECYCLE, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.ENFORCEMENT_LOST, detail={"lost": ["connect4"]}
        ),
        "lifecycle-deny-lost": Record(Action.LIFECYCLE, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.EVENTS_LOST, detail={"event": 3}),
    }


def _connection(box: Governed) -> tuple[Connection, _Notebook, socket.socket]:
    notebook = _Notebook()
    client, other = socket.socketpair()
    served = Served(7, box.policy, cast(Leaves, None), [])
    connection = Connection(served, client, cast(Agent, notebook), decide, lambda _client: None)
    binary = box.binary(NUMBERS[CURL], 4)
    connection.origin = Origin(7, NUMBERS[CURL], 4, 4242, 1, 1, 443, Verdict.INSPECT, ipaddress.ip_address("198.18.0.2"), 9)
    connection.caller = Caller(binary, box.ancestry(4), "api.example.com", 443)
    return connection, notebook, other


def _admitted(connection: Connection, head: Head) -> Record:
    """As Exchange.open describes it."""
    admitted = judge(head, cast(Caller, connection.caller), connection.served.policy, decide)
    assert isinstance(admitted, Admitted), admitted
    decision = admitted.decision
    return connection.record(
        decision.level,
        decision.reason,
        action=admitted.action,
        effect=Effect.PASS,
        decision=decision,
        http=Http(head.method, admitted.path),
    )


def _sealed(made: dict[str, tuple[Governed, Record]], directory: Path) -> dict[str, Json]:
    """Numbered and chained in the order of their names; what is different at each run is put to one value."""
    prev, found = GENESIS, dict[str, Json]()
    for seq, name in enumerate(sorted(made), 1):
        box, record = made[name]
        fields = _same(describe(box.sandbox, record), directory) | {"seq": seq, "time": f"2026-11-24T15:14:00.{seq:06d}Z"}
        line, prev = seal(fields, prev)
        found[name] = json.loads(line)
    return found


def _same(fields: Json, directory: Path) -> Json:
    text = json.dumps(fields).replace(os.fspath(directory), "/etc/stockade")
    fields = json.loads(text)
    if "approval" in fields["detail"]:
        text = text.replace(fields["detail"]["approval"], "abcdefghjkmn")
    same: Json = json.loads(text)
    return same
