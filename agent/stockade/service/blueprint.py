"""The plan of a sandbox: what of the machine it shows, who owns what in it, and what its environment says.

Decides from an Order, a Policy and a Roster, and touches nothing: the launcher carries a Plan out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel.abi import Network
from stockade.policy import Policy
from stockade.sandbox import devices, landlock, seccomp, trust, view
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.filter import compile_filter
from stockade.sandbox.limits import Limits
from stockade.sandbox.person import Person
from stockade.sandbox.plan import Bind, Plan
from stockade.sandbox.roster import PATH, Roster
from stockade.types import StockadeError

INHERITED = ("TERM", "COLORTERM", "LANG", "LC_ALL", "TZ")
HIDDEN = (
    *("/etc/stockade", "/etc/ssh", "/etc/ssl/private", "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"),
    *("/etc/sudoers", "/etc/sudoers.d", "/etc/machine-id", "/run/stockade"),
)

_LINKS = 40  # that the kernel follows on the way to one file


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of whoever asks for a sandbox: where they are, their home, and their environment."""

    directory: Path
    home: Path
    environment: Mapping[str, str]

    @classmethod
    def here(cls) -> Surroundings:
        return cls(Path.cwd(), Path.home(), dict(os.environ))


def draw(
    *,
    name: str,
    command: tuple[str, ...],
    workdir: Path | None,
    binds: Iterable[tuple[str, str, bool]],
    policy: Policy,
    roster: Roster,
    user: int,
    cgroup: Cgroup,
    limits: Limits,
    network: Network,
    authority_pem: bytes,
    around: Surroundings,
) -> Plan:
    """The plan. workdir None: the caller's directory, unless that is / or the caller's home. Raises StockadeError."""
    executable, person = policy.exec.writable, Person.named(policy.process.user)
    store = trust.build(authority_pem)
    system, links = view.system_binds()
    shown = [*system, *_of_policy(policy, user), *_of_order(binds, user, executable=executable)]
    directory = workdir or (around.directory if around.directory not in (Path("/"), around.home) else None)
    if directory is not None:
        shown.append(view.workdir_bind(directory, user, executable=executable))
    inside = shown[-1].target if directory is not None else "/tmp"
    shown += _binaries(roster, shown)
    drivers = devices.libraries(policy.process.devices)
    shown += [Bind(str(Path(path).resolve()), path, executable=True) for path in drivers if not _is_shown(Path(path), shown)]
    plan = Plan(
        name=re.sub(r"[^a-zA-Z0-9-]", "-", name)[:63],
        user=user,
        cgroup=str(cgroup.path),
        joins=tuple(str(path) for path in limits.joins),
        argv=command,
        environment=_environment(policy, person, store.variables, around.environment),
        workdir=inside,
        binds=tuple(shown),
        links=links,
        files={**store.files, **person.files(user), **_files(name, network)},
        hidden=(*HIDDEN, *policy.filesystem.hide, *(path for source in policy.sources for path in _shown_as(source, shown))),
        home=person.home,
        seccomp=compile_filter(seccomp.sandbox(policy.process.seccomp, executable=executable)),
        landlock=landlock.required(policy.best_effort),
        identity=person.identity,
        processes=limits.processes,
        devices=devices.found(policy.process.devices),
        libraries=drivers,
        noexec=not executable,
    )
    for source in policy.sources:
        refuse_inside(source, plan.binds, "a policy source")
    for script in {enrolment.binary.script for enrolment in roster if enrolment.binary.script}:
        # a script is known by its path: what can be overwritten there would inherit its name
        refuse_inside(Path(script), plan.binds, "a script of the policy")
        _refuse_below_writable(script, plan)
    for hidden in policy.filesystem.hide:
        _refuse_deep_in_writable(hidden, plan)
    return plan


def refuse_inside(path: Path, binds: Iterable[Bind], what: str) -> None:
    """Whoever can write the policy or the trail, or exchange a link on the way there, is not governed by it. Raises StockadeError."""
    *way, last = _on_the_way(path)
    for bind in binds:
        # What is bound cannot itself be exchanged from inside: `../policy.yaml` leads through the workdir and out of it.
        if bind.writable and (last.is_relative_to(bind.source) or any(Path(bind.source) in name.parents for name in way)):
            hint = "keep it outside the workdir, or name another --workdir"
            raise StockadeError(
                f"{what}, {path}, would be writable from inside the sandbox ({bind.source})", hint=hint, code="writable_source"
            )


def _on_the_way(path: Path) -> Iterator[Path]:
    """Every directory, link and file by which the kernel finds a path, the last one where it leads; each without links above it."""
    at, ahead, links = Path("/"), list(reversed(path.absolute().parts[1:])), 0
    while ahead:
        part = ahead.pop()
        at = at.parent if part == ".." else at / part
        yield at
        if at.is_symlink() and links < _LINKS:
            links += 1
            target = at.readlink()
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            at = Path("/") if target.is_absolute() else at.parent


def _refuse_below_writable(script: str, plan: Plan) -> None:
    """The path counts as the sandbox sees it: where it can rename a directory on the way, it can put another file under that path."""
    writable = [bind.target for bind in plan.binds if bind.writable]
    for target in (*writable, plan.home, "/tmp", "/var/tmp", "/dev/shm"):
        if Path(script).is_relative_to(target):
            message = f"a script of the policy, {script}, lies below {target}, which is writable in the sandbox"
            raise StockadeError(message, hint="keep it where the sandbox cannot write", code="writable_source")


def _refuse_deep_in_writable(hidden: str, plan: Plan) -> None:
    """A mount point cannot be renamed, but the directory above it can: what is hidden deeper would be found elsewhere by the next run."""
    for bind in plan.binds:
        if bind.writable and Path(hidden).is_relative_to(bind.target) and Path(hidden).parent != Path(bind.target):
            message = f"filesystem.hide {hidden}: only what lies directly in {bind.target} can be hidden in it, because it is writable"
            raise StockadeError(message, hint="hide the directory at the top, or keep it outside", code="hide_too_deep")


def _of_policy(policy: Policy, user: int) -> Iterable[Bind]:
    """What a policy lists and this machine lacks is absent in the sandbox too; it is not an error."""
    for path in policy.filesystem.read:
        if Path(path).exists():
            yield Bind(str(view.no_links(Path(path))), path)
    for path in policy.filesystem.write:
        if Path(path).exists():
            yield view.workdir_bind(Path(path), user, executable=policy.exec.writable)


def _of_order(binds: Iterable[tuple[str, str, bool]], user: int, *, executable: bool) -> Iterable[Bind]:
    for source, target, writable in binds:
        if not Path(source).exists():
            raise StockadeError(f"--bind {source}: no such file or directory", code="bad_bind")
        if writable:
            found = view.workdir_bind(Path(source), user, executable=executable)
            yield Bind(found.source, target, True, executable, found.owner)
        else:
            yield Bind(str(view.no_links(Path(source))), target)


def _binaries(roster: Roster, shown: list[Bind]) -> list[Bind]:
    """Files of the policy's binaries that lie outside everything else that is shown."""
    paths = {path for enrolment in roster for path in (enrolment.binary.path, enrolment.binary.script) if path}
    return [Bind(path, path) for path in sorted(paths) if not _is_shown(Path(path), shown)]


def _is_shown(path: Path, binds: list[Bind]) -> bool:
    return any(path.resolve().is_relative_to(bind.source) for bind in binds)


def _shown_as(path: Path, binds: list[Bind]) -> list[str]:
    """Every path inside under which a file of the host would be seen."""
    found = path.resolve()
    within = [bind for bind in binds if found.is_relative_to(bind.source)]
    shown = [str(Path(bind.target) / found.relative_to(bind.source)) for bind in within]
    return [*shown, str(found)] if found.is_relative_to("/etc") else shown


def _environment(policy: Policy, person: Person, trusted: dict[str, str], outside: Mapping[str, str]) -> dict[str, str]:
    """Empty but for a short list: whoever starts Stockade has secrets in theirs."""
    environment = {"PATH": PATH, **person.environment(), "SHELL": "/bin/sh", "TMPDIR": "/tmp"}
    environment["PYTHONNOUSERSITE"] = "1"  # $HOME is writable: without it any package there runs in every Python tool (bpf/exec.c insists)
    environment |= {name: outside[name] for name in INHERITED if name in outside} | trusted
    for name, value in policy.process.env:
        if (given := outside.get(name) if value is None else value) is not None:
            environment[name] = given
    return environment


def _files(name: str, network: Network) -> dict[str, bytes]:
    return {
        "/etc/resolv.conf": f"nameserver {network.agent4}\n".encode(),
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n".encode(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "/etc/hostname": f"{name}\n".encode(),
    }
