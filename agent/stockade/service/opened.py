"""Which directories' opens are counted, where they lie on the host, and the record that comes of a count.

A directory is known by its inode, not by its path. So it must be one that the sandbox can neither move away nor replace by another: shown
read-only, or itself what is shown writable. What is made for the sandbox alone (/tmp, /etc, the home) is not there before its start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from stockade.kernel.load import Kernel
from stockade.kernel.opens import Opened
from stockade.policy import Policy
from stockade.sandbox.plan import Bind, Plan
from stockade.service.governed import Governed
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, StockadeError

EVERY = 60.0  # seconds between two records of what goes on being opened


def ask(kernel: Kernel, governed: Governed, plan: Plan) -> list[int]:
    """Have counted what the policy wants counted, before the first exec. Raises StockadeError: the sandbox is not started.

    Returns descriptors of the directories. While they are open no other directory gets an inode's number.
    """
    policy = governed.policy
    if not policy.filesystem.count:
        return []
    held: list[int] = []
    try:
        for path, source in places(policy, plan):
            try:
                held.append(os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            except OSError as error:
                raise _refused(policy, path, f"{source}: {error.strerror}", "a directory of this machine") from None
        asked = {path: kernel.maps.facts(descriptor) for path, descriptor in zip(directories(policy), held, strict=True)}
        first = {(facts.dev, facts.ino, facts.generation): path for path, facts in reversed(asked.items())}
        for path, facts in asked.items():
            if (other := first[facts.dev, facts.ino, facts.generation]) != path:
                raise _refused(policy, path, f"it is the same directory as {other}", "one of them")
        try:
            kernel.opens.ask(governed.number, list(asked.values()))
        except OSError as error:
            raise StockadeError(f"the opens of filesystem.count cannot be counted: {error.strerror}", code="maps") from None
        kernel.count_opens()
    except BaseException:
        let_go(held)
        raise
    return held


def directories(policy: Policy) -> tuple[str, ...]:
    """In the order of their numbers, which a reload that lists them in another does not change."""
    return tuple(sorted(policy.filesystem.count))


def let_go(held: Sequence[int]) -> None:
    for descriptor in held:
        os.close(descriptor)


def places(policy: Policy, plan: Plan) -> Iterator[tuple[str, str]]:
    """(path inside, path on the host) of each directory that is counted. Raises StockadeError."""
    for path in directories(policy):
        within = [bind for bind in plan.binds if Path(path).is_relative_to(bind.target)]
        if not within:
            said = "nothing of this machine is shown there"
            raise _refused(policy, path, said, "what is shown read-only, the workdir, a directory of filesystem.write")
        if hidden := next((each for each in plan.hidden if Path(path).is_relative_to(each)), None):
            raise _refused(policy, path, f"{hidden} is hidden", "what the sandbox sees")
        bind = max(within, key=lambda bind: len(Path(bind.target).parts))
        if loose := _loose(path, bind, within, plan.home):
            raise _refused(policy, path, f"the sandbox could put another directory there, since {loose} is writable", loose)
        source = os.path.normpath(Path(bind.source) / Path(path).relative_to(bind.target))
        if (resolved := os.path.realpath(source)) != source:
            raise _refused(policy, path, "it leads through a symbolic link", f"what is meant: {resolved}")
        yield path, source


def _loose(path: str, bind: Bind, within: Sequence[Bind], home: str) -> str | None:
    """What is writable above the directory. A mount point can be neither renamed nor removed, but a directory above it can."""
    if bind.writable and path != bind.target:
        return bind.target
    above = [other.target for other in within if other.writable and other is not bind] + [home]
    parents = Path(bind.target).parents
    return next((each for each in above if Path(each) in parents and Path(each) != parents[0]), None)


def _refused(policy: Policy, path: str, why: str, accepted: str) -> StockadeError:
    place = policy.origins.entry("filesystem.count", path)
    where = f"{place.path}:{place.line}:{place.column}: " if place.path else ""
    said = f"{where}filesystem.count: opens below {path} cannot be counted: {why}"
    return StockadeError(said, hint=f"accepted: {accepted}", code="not_countable")


def record_of(opened: Opened, governed: Governed) -> Record:
    """Let through in every mode: these are calls that have succeeded."""
    binary = governed.binary(opened.identity, 0)
    detail: dict[str, str | int | list[str]] = {"times": opened.times}
    reason = Reason.OPENS_UNKNOWN
    if opened.directory is not None:
        reason = Reason.OPENS_COUNTED
        detail["prefix"] = directories(governed.policy)[opened.directory]
    return Record(
        Action.FILE,
        Outcome.ALLOW,
        Effect.PASS,
        Level.STATIC,
        reason,
        binary=binary,
        generation=governed.policy.generation,
        detail=detail,
    )
