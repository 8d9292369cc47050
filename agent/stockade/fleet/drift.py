"""Where hosts differ that should not, and what of each somebody should look at. Pure: from answers to findings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stockade.fleet.reach import Asked


class Kind(StrEnum):
    UNREACHED = "unreached"
    VERSION = "version"  # a host runs another one than most, or an agent or a daemon another than its host
    POLICY = "policy"  # a policy of one name says something else than on most
    PROBLEM = "problem"  # of a sandbox, in its agent's words


@dataclass(frozen=True, slots=True)
class Finding:
    """host: as the list calls it. sandbox: empty when it is about the host."""

    kind: Kind
    host: str
    sandbox: str
    text: str


def findings(asked: Sequence[Asked]) -> list[Finding]:
    """In the order of the hosts, by kind."""
    return [*_unreached(asked), *_versions(asked), *_policies(asked), *_problems(asked)]


def _unreached(asked: Sequence[Asked]) -> Iterator[Finding]:
    for each in asked:
        if each.node is None:
            yield Finding(Kind.UNREACHED, each.host.name, "", each.why)


def _versions(asked: Sequence[Asked]) -> Iterator[Finding]:
    most = _most([each.node.version for each in asked if each.node is not None])
    for each in asked:
        if each.node is not None and most is not None and each.node.version != most:
            yield Finding(Kind.VERSION, each.host.name, "", f"{each.node.version}, and most run {most}")
        if each.node is not None and each.node.daemon_version not in ("", each.node.version):
            text = f"its daemon is {each.node.daemon_version}, and {each.node.version} is installed"
            yield Finding(Kind.VERSION, each.host.name, "", text)
        for sandbox in each.node.sandboxes if each.node is not None else ():
            if each.node is not None and sandbox.version and sandbox.version != each.node.version:
                text = f"its agent is {sandbox.version}, and {each.node.version} is installed"
                yield Finding(Kind.VERSION, each.host.name, sandbox.name, text)


def _policies(asked: Sequence[Asked]) -> Iterator[Finding]:
    """A digest says whether two mean the same; a generation only how often one was read."""
    digests: dict[str, list[str]] = defaultdict(list)
    for each in asked:
        for sandbox in each.node.sandboxes if each.node is not None else ():
            if sandbox.policy_sha256:
                digests[sandbox.policy].append(sandbox.policy_sha256)
    for each in asked:
        for sandbox in each.node.sandboxes if each.node is not None else ():
            most = _most(digests[sandbox.policy])
            if sandbox.policy_sha256 and most is not None and sandbox.policy_sha256 != most:
                text = f"its {sandbox.policy} is {sandbox.policy_sha256[:12]}, and most have {most[:12]}"
                yield Finding(Kind.POLICY, each.host.name, sandbox.name, text)


def _problems(asked: Sequence[Asked]) -> Iterator[Finding]:
    for each in asked:
        for sandbox in each.node.sandboxes if each.node is not None else ():
            for problem in sandbox.problems:
                yield Finding(Kind.PROBLEM, each.host.name, sandbox.name, problem)


def _most(values: Sequence[str]) -> str | None:
    """The commonest; of several that are equally common the one that was met first."""
    return Counter(values).most_common(1)[0][0] if values else None
