"""System calls that a policy names: whether they exist, whether any policy may allow them, and whether anything runs without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stockade.policy.format.document import Findings, Place
from stockade.policy.format.origins import Origins
from stockade.policy.format.problems import meant
from stockade.policy.model import Seccomp
from stockade.sandbox import syscalls

ALLOW, DENY = "process.seccomp.allow", "process.seccomp.deny"


def examine_calls(stated: Seccomp, origins: Origins, findings: Findings) -> None:
    """A denial of what is refused anyway is no mistake: it says what its author relies on."""
    for call, place in _known(stated.allow, origins.entries.get(ALLOW, {}), findings):
        _may_be_allowed(call, place, findings)
    for call, place in _known(stated.deny, origins.entries.get(DENY, {}), findings):
        if call in syscalls.NEEDED:
            message = f"without `{call}` no program starts"
            findings.add(place, "syscall_needed", message, accepted="calls that a program can do without")


def _known(calls: tuple[str, ...], places: Mapping[str, Place], findings: Findings) -> Iterator[tuple[str, Place]]:
    for call in calls:
        if call in syscalls.KNOWN:
            yield call, places[call]
        else:
            message = f"there is no system call `{call}`{meant(call, sorted(syscalls.KNOWN))}"
            accepted = "the kernel's names, as in `man 2 syscalls` and `stockade seccomp show`"
            findings.add(places[call], "unknown_syscall", message, accepted=accepted)


def _may_be_allowed(call: str, place: Place, findings: Findings) -> None:
    group = syscalls.never(call)
    if group is not None:
        message = f"no policy can allow `{call}` ({group.name}): {group.why}"
        accepted = "exec: {writable: true}" if call == "memfd_create" else "the policy without it; docs/seccomp.md says what can be allowed"
        findings.add(place, "syscall_never", message, accepted=accepted)
    elif call in syscalls.names(syscalls.ALLOWED):
        message = f"`{call}` is allowed already; what its arguments may be stays as it is"
        findings.add(place, "syscall_allowed", message, severity="warning")
