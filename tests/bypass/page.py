"""docs/threats.md from the table: attack, what holds it, where that is tried. `PYTHONPATH=tests python -m bypass.page` writes it."""

from __future__ import annotations

from collections.abc import Iterator

from bypass import table
from bypass.battery import LIMIT
from vm.results import NOT_HELD, NOT_SHOWN, Kernel, kept

PAGE = table.REPOSITORY / "docs/threats.md"
_MODULES = {
    "sockets": "test_sockets.py",
    "escapes": "test_escapes.py",
    "execs": "test_execs.py",
    "wire": "test_wire.py",
    "conceded": "test_limits.py",
}
_HEAD = """\
# What is tried against a sandbox

Every attack that we know of, what holds it, and the test that tries it. Made from `tests/bypass/attacks` and `tests/golden/vectors`; a test
fails when this page is not.

An attack is tried twice. First where nothing is enforced, as root on the machine itself: there it must get out, or the table says why the
kernel refuses it anyway; an attack that never gets out proves nothing. Then in a sandbox, as its user and as uid 0 inside: nothing of it
may arrive at a listener outside, nor in any frame on the wire between, and the audit must say why. `pytest tests/bypass` ends with the
account: how many were tried and held, which limits are documented, what was skipped and why.

**limit** is not held, and [SECURITY.md](../SECURITY.md) says so. **pending** waits for something that is not built.
"""

_BACKENDS = """\
## By backend

An exec is refused by one of two: BPF LSM, and the caller sees EPERM; or the tracepoint, and the new image dies by SIGKILL before its first
instruction. Verdicts are of the runs that `tests/vm/results` keeps ([kernels.md](kernels.md)): tracepoint on {tracepoint}, LSM on {lsm}.
In words: what the attack itself met; where that differs, as the user inside, as uid 0 inside (root), where `exec.writable` is true
(writable). *nothing arrived*: its calls went through, and led nowhere. **limit**: not held on that kernel, which SECURITY.md says.
**not shown**: nothing got out, but the attack broke or its record was missing ([what failed](kernels.md#what-failed)). A row that is not
here was not performed there, or needs no kernel.
"""
_ALONE = """\
Beside answering EPERM to a caller who lives to see it: code from files that could be written, also where no noexec mount stands before it.
With the tracepoint the mounts and the filter of system calls are what refuses it. Shown by these, which are skipped without LSM:
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _tests(row: table.Row) -> str:
    if row.pending:
        return f"**pending**: {row.pending}"
    said = [f"`tests/bypass/{_MODULES[row.battery]}` [{row.id}]"] if row.battery else []
    said += [f"`{table.VECTOR_TEST}` [{row.id}]"] if row.vectors else []
    said += [f"`{node}`" for node in row.shown_by]
    return "<br>".join([f"**limit**: {row.limit}", *said] if row.limit else said)


def _lines() -> Iterator[str]:
    yield _HEAD
    for section in table.sections():
        yield f"## {section.title}\n"
        yield "| id | attack | what holds it | tried by |"
        yield "|---|---|---|---|"
        for row in section.rows:
            yield f"| {row.id} | {_cell(row.attack)} | {_cell(row.held)} | {_cell(_tests(row))} |"
        yield ""
    yield from _backends(kept())


def _backends(kernels: list[Kernel]) -> Iterator[str]:
    """Attack × backend × verdict, from the runs that tests/vm/results keeps."""
    backends = {backend: [kernel for kernel in kernels if kernel.backend == backend] for backend in ("tracepoint", "lsm")}
    yield _BACKENDS.format(**{name: ", ".join(_release(kernel) for kernel in ran) or "no kernel" for name, ran in backends.items()})
    yield "| id | tracepoint | BPF LSM |"
    yield "|---|---|---|"
    for row in table.rows():
        verdicts = [_verdict(row, ran) for ran in backends.values()]
        if any(verdicts):
            yield f"| {row.id} | {' | '.join(verdict or '–' for verdict in verdicts)} |"
    yield "\n### What LSM alone refuses\n"
    yield _ALONE
    yield from sorted(f"- `tests/{module.replace('.', '/')}.py::{name}`" for module, name in _alone(backends["lsm"]))
    yield ""


def _release(kernel: Kernel) -> str:
    return ".".join(kernel.release.split(".")[:2])


def _verdict(row: table.Row, kernels: list[Kernel]) -> str:
    """What became of it; where kernels differ, on which of them."""
    where: dict[str, list[str]] = {}
    for kernel in kernels:
        if said := _said(row, kernel):
            where.setdefault(said, []).append(_release(kernel))
    if len(where) == 1:
        return next(iter(where))
    return "<br>".join(f"{', '.join(releases)}: {said}" for said, releases in where.items())


def _said(row: table.Row, kernel: Kernel) -> str:
    """`held`, and what the attack met in each phase where it was performed."""
    attack = kernel.attacks().get(row.id)
    if attack is None:
        outcomes = {_shown(kernel, node) for node in row.shown_by}
        return "**not held**" if "failed" in outcomes else "held" if "passed" in outcomes else ""
    if NOT_HELD in attack.met.values():
        return "**not held**"
    if LIMIT in attack.met.values():
        return "**limit**"
    if NOT_SHOWN in attack.met.values():
        return "**not shown**"
    phases: dict[str, list[str]] = {}
    for phase, met in attack.met.items():
        phases.setdefault(met, []).append(phase)
    if len(phases) == 1:
        return f"held: {next(iter(phases))}"
    return "held: " + "; ".join(f"{met} ({', '.join(names)})" for met, names in phases.items())


def _shown(kernel: Kernel, node: str) -> str | None:
    """What became there of a test that shows a row; None when its module was not run."""
    file, _, name = node.partition("::")
    module = kernel.modules.get(file.removeprefix("tests/").removesuffix(".py").replace("/", "."))
    return module.outcome(name) if module else None


def _alone(kernels: list[Kernel]) -> set[tuple[str, str]]:
    """The tests of what LSM refuses, as they passed there; elsewhere they are skipped."""
    return {
        (name, test) for kernel in kernels for name, module in kernel.modules.items() if name.endswith("test_lsm") for test in module.ran()
    }


def page() -> str:
    return "\n".join(_lines())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
