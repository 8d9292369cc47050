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
    ]
