"""The sandbox's filter for other readers: as a profile that container runtimes load, as text, and as the tables of docs/seccomp.md.

Applies nothing. What a profile cannot say is that calls newer than all it names are absent: container runtimes see to that themselves.
"""

from __future__ import annotations

import errno
import re
import textwrap
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from stockade.sandbox.conditions import CONDITIONS
from stockade.sandbox.filter import Rule
from stockade.sandbox.syscalls import ABSENT, ALLOWED, ANONYMOUS, BY_POLICY, CONTAINER_DEFAULT, NEVER, Group, names

Json = dict[str, Any]


def as_oci(rules: Iterable[Rule]) -> Json:
    """`linux.seccomp` of the OCI runtime specification, which is also Kubernetes' format of a localhost profile.

    A masked comparison has its mask under `value` and what must be left under `valueTwo` (config-linux.md).
    """
    plain = {error: sorted(rule.call for rule in rules if not rule.when and rule.error == error) for error in _errors(rules)}
    entries = [_entry(calls, error) for error, calls in plain.items() if calls]
    conditional = [rule for rule in rules if rule.when]
    for (call, error), alternatives in groupby(conditional, key=lambda rule: (rule.call, rule.error)):
        for rule in alternatives:
            arguments = [
                {"index": part.index, "value": part.mask, "valueTwo": part.value, "op": "SCMP_CMP_MASKED_EQ"} for part in rule.when
            ]
            entries.append({**_entry([call], error), "args": arguments})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": entries,
    }


def _errors(rules: Iterable[Rule]) -> list[int | None]:
    return [None, *sorted({rule.error for rule in rules if rule.error is not None})]


def _entry(calls: list[str], error: int | None) -> Json:
    if error is None:
        return {"names": calls, "action": "SCMP_ACT_ALLOW"}
    return {"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": error}


def as_json(calls: frozenset[str]) -> Json:
    """calls: what is allowed."""
    return {
        "count": len(calls),
        "groups": [{"name": group.name, "why": group.why, "calls": list(group.calls)} for group in grouped(calls)],
        "conditions": {call: condition.says for call, condition in CONDITIONS.items() if call in calls},
        "absent": list(ABSENT.calls),
        "never": [{"name": group.name, "why": group.why, "calls": list(group.calls)} for group in NEVER],
    }


def as_text(calls: frozenset[str], width: int = 120) -> str:
    """calls: those that a sandbox may make. width: of a line, in characters."""
    lines = []
    for group in grouped(calls):
        lines += [f"{group.name} ({len(group.calls)}): {group.why}", *_wrapped(" ".join(map(_marked, group.calls)), width), ""]
    lines.append("* under a condition:")
    lines += [f"    {call}: {condition.says}" for call, condition in CONDITIONS.items() if call in calls]
    lines += ["", "never, whatever a policy says:"]
    lines += [line for group in NEVER for line in _wrapped(f"{group.name}: {' '.join(sorted(set(group.calls) - calls))}", width)]
    lines += ["", f"{len(calls)} system calls are allowed; the default of container runtimes allows more than {CONTAINER_DEFAULT}"]
    return "\n".join(lines)


def grouped(calls: frozenset[str]) -> list[Group]:
    """The allowed calls as the table groups them; what a policy added stands last."""
    listed = [Group(group.name, group.why, tuple(call for call in group.calls if call in calls)) for group in ALLOWED]
    added = tuple(sorted(calls - set(names(ALLOWED))))
    return [group for group in (*listed, Group("by the policy", "it says so", added)) if group.calls]


def _marked(call: str) -> str:
    return f"{call}*" if call in CONDITIONS else call


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


# --- docs/seccomp.md ---------------------------------------------------------------------------------------------------------------------


def renewed(page: str) -> str:
    """docs/seccomp.md with its generated parts as they should be."""
    never = [group for group in NEVER if group not in (ABSENT, ANONYMOUS)]
    parts = {
        "allowed": f"{len(names(ALLOWED))} system calls. {_STAR}\n\n{_table(ALLOWED)}",
        "conditions": _conditions(),
        "answers": _table((ABSENT, ANONYMOUS)),
        "never": _table(never),
        "by policy": _table(BY_POLICY),
    }
    for name, text in parts.items():
        start, end = f"<!-- {name}, generated -->\n", f"<!-- end of {name} -->"
        page = re.sub(f"{start}.*?{end}", lambda found, new=f"{start}\n{text}\n{end}": new, page, flags=re.DOTALL)  # type: ignore[misc]
    return page


_STAR = "A star marks those that pass with some arguments only."


def _table(groups: Iterable[Group]) -> str:
    rows = (f"| {group.name} | {group.why} | {' '.join(f'`{_marked(call)}`' for call in group.calls)} |\n" for group in groups)
    return "| what | why | calls |\n|---|---|---|\n" + "".join(rows)


def _conditions() -> str:
    rows = (f"| `{call}` | {condition.says} | {_answers(call)} |\n" for call, condition in CONDITIONS.items())
    return "| call | passes | otherwise |\n|---|---|---|\n" + "".join(rows)


def _answers(call: str) -> str:
    """The names of the errors that it may answer."""
    errors = dict.fromkeys((*(error for error, _ in CONDITIONS[call].otherwise), errno.EPERM))
    return ", ".join(errno.errorcode[error] for error in errors)
