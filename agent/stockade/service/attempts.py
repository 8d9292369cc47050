"""From a kernel event to the one record it deserves. Pure: an event and a sandbox's state in, a Record out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from stockade.kernel import devices
from stockade.kernel.abi import Event, EventType, Verdict, Why
from stockade.policy import decide
from stockade.service.governed import Governed
from stockade.types import UNKNOWN_BINARY, Action, Binary, Destination, Effect, Level, Outcome, Reason, Record, Request

_REASONS = {
    Why.UNTAGGED: Reason.IDENTITY_UNKNOWN,
    Why.EXE_MISMATCH: Reason.IDENTITY_MISMATCH,
    Why.AGENT_ADDRESS: Reason.AGENT_ADDRESS,
    Why.PROTOCOL: Reason.PROTOCOL_REFUSED,
    Why.BIND: Reason.BIND_REFUSED,
    Why.UNLISTED: Reason.EXEC_UNLISTED,
    Why.CHANGED: Reason.EXEC_CHANGED,
    Why.ANONYMOUS: Reason.EXEC_ANONYMOUS,
    Why.LOADER_VARIABLE: Reason.LOADER_VARIABLE,
    Why.ENV_UNREADABLE: Reason.ENV_UNREADABLE,
    Why.MAP_FULL: Reason.KERNEL_MAP_FULL,
    Why.PACKET: Reason.PACKET_DROPPED,
    Why.WRITABLE: Reason.MAPPING_WRITABLE,
}
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6", 132: "sctp", 136: "udplite", 262: "mptcp"}
_UDP = 17
_FOREIGN = frozenset({Why.LOADER_VARIABLE, Why.ENV_UNREADABLE})
_IDENTITY = frozenset({Why.UNTAGGED, Why.EXE_MISMATCH})


def record_of(event: Event, governed: Governed) -> Record:
    """The record of one event."""
    if event.type is EventType.EXEC:
        return _exec(event, governed)
    if event.type is EventType.CONNECT:
        return _connect(event, governed)
    if event.type is EventType.MAPPING:
        return _mapping(event, governed)
    if event.type is EventType.DEVICE:
        return _device(event)
    if event.type is EventType.INBOUND:
        return _inbound(event, governed)
    return _refusal(event, governed)


def _device(event: Event) -> Record:
    """Refused in every mode. Who asked is not known: see kernel/devices.py."""
    kind = {1: "block", 2: "char"}.get(event.protocol >> 8, "?")
    asked = [word for bit, word in ((devices.MKNOD, "mknod"), (devices.READ, "read"), (devices.WRITE, "write")) if event.protocol & bit]
    detail: dict[str, str | int | list[str]] = {"device": f"{kind} {event.port}:{event.name}", "access": asked}
    return Record(Action.DEVICE, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.DEVICE_REFUSED, detail=detail)


def _inbound(event: Event, governed: Governed) -> Record:
    """Let in by a container's own device, to a port that the policy opens to that address."""
    return Record(
        Action.INBOUND,
        Outcome.ALLOW,
        Effect.PASS,
        Level.DESTINATION,
        Reason.RULE_ALLOW,
        destination=Destination(governed.sandbox.name, event.port),
        generation=event.generation,
        detail={"source": str(event.address), "by": "its own device"},
    )


def executed_binary(event: Event, governed: Governed) -> Binary:
    """What an exec became: the enrolled binary, or the bare path that was asked for.

    One that brought loader variables along has no name that a rule could match, in this life.
    """
    known = governed.roster.binary(event.identity)
    if known is not None:
        return dataclasses.replace(known, names=frozenset()) if event.why in _FOREIGN else known
    path = os.fsdecode(event.tail) or "?"
    return Binary(Path(path).name or path, frozenset(), path)


def _exec(event: Event, governed: Governed) -> Record:
    binary = executed_binary(event, governed)
    enforced = governed.policy_of(event.generation).enforced
    if event.why is Why.POLICY:
        outcome, effect, reason, enforced = Outcome.ALLOW, Effect.PASS, Reason.EXEC_ALLOWED, True
    elif event.verdict is not Verdict.DENY:  # it may run, and reach nothing: unlisted, or with loader variables
        outcome, effect, reason, enforced = Outcome.ALLOW, Effect.PASS, _REASONS[event.why], True
    else:
        outcome, reason = Outcome.DENY, _REASONS[event.why]
        enforced = enforced or event.why is Why.MAP_FULL  # without a tag it could not be told from any other: killed in every mode
        effect = Effect.REFUSE if enforced else Effect.PASS
        if reason is Reason.EXEC_UNLISTED and governed.policy.may_exec(binary).reason is Reason.EXEC_DENIED:
            reason = Reason.EXEC_DENIED
    ancestry = governed.ancestry(event.exec_id)
    detail: dict[str, str | int | list[str]] = (
        {"variable": event.variable or "PYTHONNOUSERSITE is not set"} if reason is Reason.LOADER_VARIABLE else {}
    )
    return Record(
        Action.EXEC,
        outcome,
        effect,
        Level.EXEC,
        reason,
        enforced=enforced,
        binary=binary,
        exec_id=event.exec_id,
        pid=event.pid,
        ancestry=ancestry,
        generation=event.generation,
        detail=detail,
    )


def _connect(event: Event, governed: Governed) -> Record:
    policy = governed.policy_of(event.generation)
    binary = governed.binary(event.identity, event.exec_id) if event.exec_id else UNKNOWN_BINARY
    host = governed.host(event.name, event.address)
    rule, enforced = None, True
    if event.verdict is Verdict.LOCAL:
        outcome, effect, level, reason = Outcome.ALLOW, Effect.PASS, Level.DESTINATION, Reason.LOCAL_LISTENER
    elif event.why is not Why.POLICY:
        level = Level.BINARY if event.why in _IDENTITY else Level.DESTINATION
        outcome, effect, reason = Outcome.DENY, Effect.REFUSE, _REASONS[event.why]
    elif host is None:
        outcome, effect, level, reason = Outcome.DENY, Effect.REFUSE, Level.DESTINATION, Reason.UNKNOWN_SYNTHETIC
    else:
        decision = decide(Request(binary, host, event.port), policy)
        outcome, level, reason, rule, enforced = decision.outcome, decision.level, decision.reason, decision.rule, decision.enforced
        if event.verdict is Verdict.DENY:
            effect = Effect.REFUSE
            if decision.allowed:  # the policy would have let it pass, and the kernel's verdicts do not hold it: say so
                outcome, reason, enforced = Outcome.DENY, Reason.KERNEL_MAP_FULL, True
        else:
            effect = Effect.RELAY if event.verdict is Verdict.RELAY else Effect.PASS
    return Record(
        Action.CONNECT,
        outcome,
        effect,
        level,
        reason,
        rule=rule,
        enforced=enforced,
        binary=binary,
        exec_id=event.exec_id or None,
        pid=event.pid,
        ancestry=governed.ancestry(event.exec_id),
        destination=_destination(event, host),
        generation=policy.generation,
    )


def _mapping(event: Event, governed: Governed) -> Record:
    """A file that was to be mapped as code. The kernel says itself whether observing lifted it: a noexec mount refuses in every mode."""
    refused = event.verdict is Verdict.DENY
    return Record(
        Action.FILE,
        Outcome.DENY,
        Effect.REFUSE if refused else Effect.PASS,
        Level.EXEC,
        _REASONS.get(event.why, Reason.EXEC_UNLISTED),
        enforced=refused,
        binary=governed.binary(event.identity, event.exec_id),
        exec_id=event.exec_id or None,
        pid=event.pid,
        ancestry=governed.ancestry(event.exec_id),
        generation=event.generation,
        detail={"call": "mmap", "path": os.fsdecode(event.tail)},
    )


def _refusal(event: Event, governed: Governed) -> Record:
    """Datagrams, binds, sockets and packets: the kernel speaks of these only when it refuses."""
    action = {EventType.BIND: Action.INBOUND, EventType.SOCKET: Action.SYSCALL}.get(event.type, Action.CONNECT)
    detail: dict[str, str | int | list[str]] = {}
    destination: Destination | None = None
    if event.type is EventType.SOCKET:
        detail = {"call": "socket", "type": event.port, "protocol": _PROTOCOLS.get(event.protocol, str(event.protocol))}
    else:
        detail = {"protocol": _PROTOCOLS.get(event.protocol, str(event.protocol))}
        destination = _destination(event, governed.host(event.name, event.address))
    reason = _REASONS.get(event.why, Reason.NO_RULE)
    if event.type is EventType.PACKET and event.protocol == _UDP and event.name:
        reason = Reason.PROTOCOL_REFUSED  # a datagram of a socket that UDP-connected to a name: the last net is where it is decided
    return Record(
        action,
        Outcome.DENY,
        Effect.REFUSE,
        Level.BINARY if event.why in _IDENTITY else Level.DESTINATION,
        reason,
        binary=governed.binary(event.identity, event.exec_id),
        exec_id=event.exec_id or None,
        pid=event.pid,
        ancestry=governed.ancestry(event.exec_id),
        destination=destination,
        generation=event.generation,
        detail=detail,
    )


def _destination(event: Event, host: str | None) -> Destination:
    address = str(event.address) if event.address is not None else None
    return Destination(host or address or "?", event.port, address)
