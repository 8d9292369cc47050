"""Differences: what becomes possible and what stops being possible when one policy takes another's place. Decided on what they mean: rules
that are renamed, split or joined are no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from stockade.policy.format.amounts import size_text
from stockade.policy.model import DEFAULT_PIDS, Policy, Process
from stockade.policy.proof.reach import Example, Gain, gains
from stockade.policy.proof.routing import routing
from stockade.policy.proof.space import Space
from stockade.policy.question import named_binary
from stockade.sandbox.syscalls import allowed

_SHOWN = 8  # items of a list that are printed; the JSON has them all


@dataclass(frozen=True, slots=True)
class Change:
    """effect: `possible` and `impossible` say what the second policy does; `changed` is neither more nor less. gain: of the network."""

    effect: Literal["possible", "impossible", "changed"]
    area: Literal["network", "rego", "exec", "filesystem", "process", "inbound", "privacy", "mode"]
    text: str
    gain: Gain | None = None

    @property
    def example(self) -> Example | None:
        return self.gain.example if self.gain else None


def diff(a: Policy, b: Policy) -> tuple[Change, ...]:
    """Every difference of what b means to what a means; empty when there is none. Raises TooComplexError."""
    space = Space((a, b))
    network = [
        *(Change("possible", "network", in_words(gain), gain) for gain in gains(space, a, b)),
        *(Change("impossible", "network", in_words(gain), gain) for gain in gains(space, b, a)),
    ]
    static = (*_exec(a, b), *_filesystem(a, b), *_process(a, b), *_calls(a, b))
    private = (Change(effect, "privacy", text) for effect, text in routing(a.privacy, b.privacy))
    return (*_mode(a, b), *network, *_addresses(a, b), *_rego(a, b), *_inbound(a, b), *private, *static)


def in_words(gain: Gain) -> str:
    ports = ", ".join(map(str, gain.ports))
    hosts = _listed(gain.hosts)
    where = f"{hosts}:{ports}" if len(gain.hosts) == 1 == len(gain.ports) else f"{hosts}, port {ports}"
    paths = f", on {_listed(gain.on)}" if gain.on else ""
    return f"{_listed(gain.who)}: {', '.join(gain.methods)} to {where}{paths}" + (f", but not {_listed(gain.but)}" if gain.but else "")


def _listed(items: Iterable[str]) -> str:
    shown = list(items)
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _mode(a: Policy, b: Policy) -> Iterator[Change]:
    if a.mode != b.mode:
        effect: Literal["possible", "impossible"] = "possible" if b.mode == "observe" else "impossible"
        yield Change(effect, "mode", "whatever is asked passes: mode is observe, and a denial is only recorded")
    if a.on_audit_failure != b.on_audit_failure:
        effect = "possible" if b.on_audit_failure == "continue" else "impossible"
        yield Change(effect, "mode", "requests pass that could not be recorded (on_audit_failure: continue)")
    for name in sorted(a.best_effort ^ b.best_effort):
        effect = "possible" if name in b.best_effort else "impossible"
        yield Change(effect, "mode", f"a sandbox starts where the kernel offers no {name} (best_effort)")


def _addresses(a: Policy, b: Policy) -> Iterator[Change]:
    """Where private addresses may lie that a host resolves to: it decides what is dialled, after `decide`.

    A host that only one of them names goes without saying, unless it states `addresses`.
    """
    old, new = _private(a), _private(b)
    for host in dict.fromkeys((*old, *new)):
        before, after = old.get(host, set()), new.get(host, set())
        if before != after and ((host in old and host in new) or (before | after) - {"any"}):
            said = f"{', '.join(sorted(after)) or 'none'}, instead of {', '.join(sorted(before)) or 'none'}"
            yield Change("changed", "network", f"{host} may resolve to these private addresses: {said}")


def _private(policy: Policy) -> dict[str, set[str]]:
    """By destination as written. A host that is named exactly may be anywhere, unless its rule says where."""
    found: dict[str, set[str]] = {}
    for rule in policy.rules:
        stated = {str(network) for network in rule.destination.addresses}
        for pattern in rule.destination.allow:
            found.setdefault(pattern.text, set()).update(stated or ({"any"} if pattern.kind == "name" else set()))
    return found


def _rego(a: Policy, b: Policy) -> Iterator[Change]:
    old, new = a.rego.key if a.rego else "", b.rego.key if b.rego else ""
    if old != new:
        what = "the text of Rego differs" if old and new else "there is Rego" if new else "there is no Rego any more"
        yield Change("changed", "rego", f"{what}: what it allows or denies is not compared")


def _exec(a: Policy, b: Policy) -> Iterator[Change]:
    names = dict.fromkeys((*a.exec.allow, *b.exec.allow, *a.exec.deny, *b.exec.deny))
    ran = {name: (a.may_exec(named_binary(name, a)).allowed, b.may_exec(named_binary(name, b)).allowed) for name in names}
    yield from _either(
        "exec", "may run", [name for name, (old, new) in ran.items() if new > old], [name for name, (old, new) in ran.items() if old > new]
    )
    if a.exec.unlisted != b.exec.unlisted:
        effect: Literal["possible", "impossible"] = "possible" if b.exec.unlisted == "no-network" else "impossible"
        yield Change(effect, "exec", "programs that no list names run, without any network (exec.unlisted: no-network)")
    if a.exec.writable != b.exec.writable:
        effect = "possible" if b.exec.writable else "impossible"
        yield Change(effect, "exec", "files that the sandbox can write may be executed (exec.writable)")
    yield from _either(
        "exec",
        "may be set for a binary with network rules",
        [name for name in b.exec.env if name not in a.exec.env],
        [name for name in a.exec.env if name not in b.exec.env],
    )


def _filesystem(a: Policy, b: Policy) -> Iterator[Change]:
    for what, old, new in (("read", a.filesystem.read, b.filesystem.read), ("written", a.filesystem.write, b.filesystem.write)):
        if bool(old) == bool(new):
            yield from _either("filesystem", f"can be {what}", _uncovered(new, old), _uncovered(old, new))
        else:
            said = [f"only {_listed(paths)}" if paths else "what the default says" for paths in (new, old)]
            yield Change("changed", "filesystem", f"can be {what}: {said[0]}, instead of {said[1]}")
    old, new = a.filesystem.hide, b.filesystem.hide
    yield from _either("filesystem", "is seen", _uncovered(old, new), _uncovered(new, old))
    if set(a.filesystem.count) != set(b.filesystem.count):
        said = [_listed(sorted(paths)) if paths else "none" for paths in (b.filesystem.count, a.filesystem.count)]
        yield Change("changed", "filesystem", f"opens are counted below {said[0]}, instead of {said[1]}")


def _uncovered(paths: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    """Those that are not others, nor below one."""
    return [path for path in paths if not any(path == other or path.startswith(other.rstrip("/") + "/") for other in others)]


def _process(a: Policy, b: Policy) -> Iterator[Change]:
    if a.process.user != b.process.user:
        yield Change("changed", "process", f"runs as {b.process.user or 'its own user'} instead of {a.process.user or 'its own user'}")
    yield from _limits(a.process, b.process)
    yield from _either("process", "device files that are shown", _missing(b, a), _missing(a, b))
    old, new = dict(a.process.env), dict(b.process.env)
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield Change("impossible", "process", f"{name} is in the environment")
        elif name not in old:
            yield Change("possible", "process", f"{name} is in the environment: {_value(new[name])}")
        elif old[name] != new[name]:
            yield Change("changed", "process", f"{name} in the environment is {_value(new[name])} instead of {_value(old[name])}")


def _missing(a: Policy, b: Policy) -> list[str]:
    """Devices of a that b has not."""
    return [name for name in a.process.devices if name not in b.process.devices]


def _calls(a: Policy, b: Policy) -> Iterator[Change]:
    before, after = (allowed(policy.process.seccomp.allow, policy.process.seccomp.deny) for policy in (a, b))
    yield from _either("process", "may be called", sorted(after - before), sorted(before - after))


def _inbound(a: Policy, b: Policy) -> Iterator[Change]:
    old, new = ({(each.port, source) for each in policy.inbound for source in each.sources} for policy in (a, b))
    for effect, those in (("possible", new - old), ("impossible", old - new)):
        by_port: dict[int, list[str]] = {}
        for port, source in sorted(those, key=lambda pair: (pair[0], str(pair[1]))):
            by_port.setdefault(port, []).append(str(source))
        for port, sources in by_port.items():
            yield Change("possible" if effect == "possible" else "impossible", "inbound", f"{_listed(sources)} may connect to port {port}")


def _limits(old: Process, new: Process) -> Iterator[Change]:
    for name in ("pids", "memory", "cpu"):
        before, after = (getattr(process, name) or (DEFAULT_PIDS if name == "pids" else None) for process in (old, new))
        if before == after:
            continue
        looser = after is None or (before is not None and after > before)
        was, now = ("no limit" if limit is None else size_text(limit) if name == "memory" else f"{limit:g}" for limit in (before, after))
        yield Change("possible" if looser else "impossible", "process", f"{name}: {was} before, {now} after")


def _value(value: str | None) -> str:
    return "inherited" if value is None else repr(value)


def _either(area: Literal["exec", "filesystem", "process"], what: str, gained: list[str], lost: list[str]) -> Iterator[Change]:
    if gained:
        yield Change("possible", area, f"{what}: {', '.join(gained)}")
    if lost:
        yield Change("impossible", area, f"{what}: {', '.join(lost)}")
