"""The pages that are made of tests/vm/results: docs/kernels.md, a table in README, and one in docs/threats.md. `python tests/vm/table.py`
writes them; with --here it first runs the tests on this kernel too, with the names of directories in .vm/results it keeps those."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bypass import page as threats
from bypass.battery import LIMIT
from vm.kernels import ALL, ROOT, VM, here, read
from vm.results import NOT_HELD, NOT_SHOWN, Kernel, keep, kept

PAGE, README = ROOT / "docs/kernels.md", ROOT / "README.md"
BEGIN, END = "<!-- kernels: made by tests/vm/table.py -->", "<!-- /kernels -->"
HEAD = """\
# Which kernel can do what

Made from `tests/vm/results`, which `make test-kernels` renews: what `stockade doctor` found on each kernel by doing it, and how the tests
of the kernel's programs and of the attacks ended there. A test fails when this page is not what the results say.

6.1 and 6.12 are Debian's own kernels under software emulation (virtme-ng and qemu), on the files of the machine that ran them; a column
marked (host) is that machine's own. `with BPF LSM` was booted with `lsm=landlock,lockdown,yama,bpf`, the others without `bpf`. A stock
Debian kernel has `bpf` in its built-in list. A kernel without a column has no kept run, and a module without a cell was not run there:
nothing is said of it. Every `make test` boots 6.1 with BPF LSM and 6.12 without, for the tests that depend most on the kernel.
"""
SIGNS = {"available": "yes", "missing": "no", "could not tell": "?"}
OF_THE_MACHINE = {  # what another machine with the same kernel may have, and this one had or had not
    *("root", "kernel", "python", "CA bundle", "bpftool", "mitmproxy", "clock", "clock synchronised", "disk for the audit"),
    *("run directory", "GPU", "onnxruntime", "limit on pids", "limit on memory", "limit on cpu"),
}
LANDLOCK = "Landlock ABI "
DECIDES = ("kernel.test_connect", "kernel.test_datagrams", "bypass.test_sockets")


def decided(kernel: Kernel) -> str:
    """What the tests say that ran there, where doctor finds all that the product cannot be without: program types, and the maps."""
    wanted = [answer for name, answer in kernel.findings.items() if name.startswith("program type of ") or name in ("BTF", "ring buffer")]
    if not wanted or set(wanted) != {"available"}:
        return "**no**"
    ran = [kernel.modules[name] for name in DECIDES if name in kernel.modules]
    passed, failed = (sum(map(count, ran)) for count in (lambda each: sum(each.passed.values()), lambda each: len(each.failed)))
    return "–" if not ran else f"yes: {passed} tests" if not failed else f"{passed} tests passed, **{failed} failed**"


def landlock(kernel: Kernel) -> str:
    found = [name for name, answer in kernel.findings.items() if name.startswith(LANDLOCK) and answer == "available"]
    return found[-1].removeprefix(LANDLOCK).split(" ")[0] if found else "no"


def attacks(kernel: Kernel) -> str:
    tried = kernel.attacks()
    conceded = sum(LIMIT in attack.met.values() for attack in tried.values())
    held = sum(not {NOT_HELD, NOT_SHOWN, LIMIT} & set(attack.met.values()) for attack in tried.values())
    return f"{held} of {len(tried)}" + (f", {conceded} documented limits" if conceded else "") if tried else "–"


def ran(kernel: Kernel) -> str:
    modules = kernel.modules.values()
    return counts(
        sum(sum(each.passed.values()) for each in modules),
        sum(len(each.skipped) for each in modules),
        sum(len(each.failed) for each in modules),
    )


def counts(passed: int, skipped: int, failed: int) -> str:
    return f"{passed} / {skipped}" + (f" / **{failed}**" if failed else "")


def sign(name: str) -> Callable[[Kernel], str]:
    return lambda kernel: SIGNS.get(kernel.findings.get(name, ""), "–")


SHORT: tuple[tuple[str, Callable[[Kernel], str]], ...] = (
    ("connects, datagrams, binds and names decided", decided),
    ("a refused exec", lambda kernel: "answers EPERM" if kernel.backend == "lsm" else "is killed"),
    ("code from writable files refused by", lambda kernel: "LSM, and the mounts" if kernel.backend == "lsm" else "the mounts"),
    ("senders on a connected socket named", sign("senders named")),
    ("id-mapped mounts of 9p and tmpfs, ext4", sign("id-mapped mounts")),
    ("Landlock ABI", landlock),
    ("attacks held, of those tried there", attacks),
    ("tests passed / skipped / failed", ran),
)


def short(kernels: list[Kernel]) -> str:
    """The table of README, between its marks."""
    return "\n".join([BEGIN, *_table("", kernels, [(label, list(map(cell, kernels))) for label, cell in SHORT]), END])


def page(kernels: list[Kernel]) -> str:
    lines = [HEAD, *_table("in short", kernels, [(label, list(map(cell, kernels))) for label, cell in SHORT])]
    lines += ["", "## What `stockade doctor` found by doing it", ""]
    names = dict.fromkeys(name for kernel in kernels for name in kernel.findings if name not in OF_THE_MACHINE)
    lines += _table("need", kernels, [(name, [sign(name)(kernel) for kernel in kernels]) for name in names])
    lines += [
        "",
        "## Tests",
        "",
        "As passed / skipped / failed, with the day of the last run; cut short: its time was over first.",
        "",
    ]
    modules = sorted({name for kernel in kernels for name in kernel.modules})
    lines += _table(
        "module", kernels, [(f"`tests/{name.replace('.', '/')}.py`", [_module(each, name) for each in kernels]) for name in modules]
    )
    lines += ["", "### What failed", "", *(_failed(kernels) or ["Nothing."])]
    lines += ["", "### Why tests were skipped", "", *_skipped(kernels)]
    lines += [
        "",
        "## Attacks on what a kernel has not",
        "",
        "Held there like any other; but no control could get out, so that it shows nothing.",
        "",
    ]
    lines += _lacking(kernels) or ["None."]
    return "\n".join([*lines, ""])


def _table(head: str, kernels: list[Kernel], rows: list[tuple[str, list[str]]]) -> list[str]:
    names = [f"{each.name}{' (host)' if each.host else ''}" for each in kernels]
    cells = [[head, *names], ["---"] * (len(names) + 1), *([name, *values] for name, values in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _module(kernel: Kernel, name: str) -> str:
    if name not in kernel.modules:
        return "–"
    module = kernel.modules[name]
    when = f"{module.date}, cut short" if module.cut else module.date
    return f"{counts(sum(module.passed.values()), len(module.skipped), len(module.failed))} ({when})"


def _failed(kernels: list[Kernel]) -> list[str]:
    return [
        f"- {kernel.name}: `{module.replace('.', '/')}.py::{name}`: {why.replace('|', '&#124;')}"
        for kernel in kernels
        for module, ran in kernel.modules.items()
        for name, why in ran.failed.items()
    ]


def _skipped(kernels: list[Kernel]) -> list[str]:
    where: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        for module in kernel.modules.values():
            for why in module.skipped.values():
                at = where.setdefault(why, {})
                at[kernel.name] = at.get(kernel.name, 0) + 1
    return [f"- {why} ({', '.join(f'{count} on {kernel}' for kernel, count in at.items())})" for why, at in sorted(where.items())] or [
        "None was."
    ]


def _lacking(kernels: list[Kernel]) -> list[str]:
    found = {kernel.name: [f"{name} ({each.lacking})" for name, each in kernel.attacks().items() if each.lacking] for kernel in kernels}
    return [f"- {name}: {', '.join(rows)}" for name, rows in found.items() if rows]


if __name__ == "__main__":
    for word in sys.argv[1:]:
        keep(here(ALL) if word == "--here" else read(VM / "results" / word))
    PAGE.write_text(page(kept()), encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(before + short(kept()) + rest.partition(END)[2], encoding="utf-8")
    threats.PAGE.write_text(threats.page(), encoding="utf-8")
