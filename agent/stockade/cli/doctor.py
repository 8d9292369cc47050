"""`stockade doctor`: what this machine can enforce, found out by doing it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
from collections.abc import Callable

from stockade.kernel.probe import Answer, Finding, kernel_findings
from stockade.types import StockadeError

SUMMARY = (
    "Say what this kernel and machine can enforce. Exits with 1 when something `stockade run` needs is missing, 2 when it could not tell."
)
EXAMPLES = """\
  stockade doctor
  stockade doctor -o json | jq '.[] | select(.answer != "available")'
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    found = [*machine_findings(), *kernel_findings()]
    if args.output == "json":
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding.answer.value:14} {finding.name}" + (f": {finding.detail}" if finding.detail else ""))
            if finding.answer is not Answer.AVAILABLE and finding.hint:
                print(f"{'':14} hint: {finding.hint}")
    needed = {finding.answer for finding in found if finding.fatal}
    if Answer.MISSING in needed:
        return 1
    return 2 if Answer.UNKNOWN in needed else 0


def machine_findings() -> list[Finding]:
    """What has to be on the machine besides the kernel."""
    from stockade.sandbox import cgroup, seccomp, trust
    from stockade.sandbox.filter import compile_filter

    def attempt(name: str, check: Callable[[], object]) -> Finding:
        try:
            return Finding(name, Answer.AVAILABLE, str(check()))
        except StockadeError as error:
            return Finding(name, Answer.MISSING, error.message, error.hint)

    root = Answer.AVAILABLE if os.geteuid() == 0 else Answer.MISSING
    tool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")
    return [
        Finding("root", root, hint="sudo stockade doctor"),
        attempt("cgroup v2", cgroup.mounted),
        attempt("CA bundle", trust.system_bundle),
        attempt("libseccomp", lambda: f"{len(compile_filter(seccomp.sandbox())) // 8} instructions"),
        Finding("bpftool", Answer.AVAILABLE if tool else Answer.MISSING, tool or "", "apt-get install bpftool"),
        *_landlock(),
        *_limits(),
        _user_namespaces(),
    ]


def _landlock() -> list[Finding]:
    """What each ABI adds, and whether this kernel has it. The first is the floor: without it a policy must say so in `best_effort`."""
    from stockade.sandbox import landlock

    here = landlock.abi()
    hint = f"Linux {landlock.FLOOR} or newer, booted with lsm=landlock,…; or `best_effort: [landlock]` in the policy"
    return [
        Finding(
            f"Landlock ABI {version} (Linux {kernel})",
            Answer.AVAILABLE if version <= here else Answer.MISSING,
            adds,
            hint if version == 1 else "",
            fatal=version == 1,
        )
        for version, (kernel, adds) in landlock.ADDS.items()
    ]


def _limits() -> list[Finding]:
    from stockade.sandbox import limits

    places = limits.places()
    hint = "a policy with this limit needs the controller in a mounted cgroup hierarchy, or `best_effort: [limits]`"
    return [
        Finding(f"limit on {name}", Answer.AVAILABLE if name in places else Answer.MISSING, places.get(name, ""), hint, fatal=False)
        for name in limits.CONTROLLERS
    ]


def _user_namespaces() -> Finding:
    from stockade.sandbox import view

    name, hint = "user namespaces", "sysctl user.max_user_namespaces; a workdir of another user, and process.user as a number, need one"
    try:
        os.close(view.user_namespace((0, 0), 1))
    except OSError as error:
        answer = Answer.UNKNOWN if os.geteuid() != 0 else Answer.MISSING
        return Finding(name, answer, error.strerror or str(error), hint, fatal=False)
    return Finding(name, Answer.AVAILABLE, fatal=False)
