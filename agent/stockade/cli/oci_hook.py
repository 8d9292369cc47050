"""`stockade oci-hook`: what a container runtime runs before a container starts."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

SUMMARY = (
    "Govern a container from its first instruction. A runtime runs this as a createRuntime hook, with the container's state on standard "
    "input; it returns when the container is governed, and otherwise ends with 2, so that the container does not start. Which policy: the "
    "annotation stockade.policy names a file of --policies, and stockade.preset presets that ship. See docs/attach.md."
)
EXAMPLES = """\
  stockade oci-hook --install runc         # what to add to a bundle's config.json
  stockade oci-hook --install podman       # what to put into /etc/containers/oci/hooks.d/stockade.json
  stockade oci-hook --install containerd   # what to add to the base runtime spec
  podman run --annotation stockade.policy=web …   # then /etc/stockade/policies/web.yaml holds it
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policies", type=Path, metavar="DIR", help="where policies are (default: /etc/stockade/policies)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--default", metavar="NAME", help="for containers that name no policy (default: these are not governed)")
    which.add_argument("--require", action="store_true", help="let no container start that names no policy")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("--embedded", action="store_true", help="by an agent of its own, also where a daemon runs")
    parser.add_argument("--install", choices=("runc", "podman", "containerd"), help="print what a runtime must be told, and do nothing")


def run(args: argparse.Namespace) -> int:
    if args.install is not None:
        print(json.dumps(snippet(args.install, _words(args)), indent=2))
        return 0
    from stockade.attach.hook import DIRECTORY, Choice, govern
    from stockade.service.settings import Settings
    from stockade.settings import configured

    choice = Choice(args.policies or DIRECTORY, args.default or "", args.require)
    settings = Settings.of(configured(args.settings))
    said = govern(sys.stdin.buffer.read(), choice, settings, args.settings, embedded=args.embedded)
    print(said, file=sys.stderr)
    return 0


def snippet(runtime: str, words: list[str]) -> dict[str, object]:
    """JSON: for podman a file of hooks.d (oci-hooks(5)), else the part of a runtime spec."""
    hook: dict[str, object] = {"path": words[0], "args": words, "timeout": 180}
    if runtime == "podman":
        # one that is there and says nothing too: to refuse it is the hook's
        when = {"annotations": {r"^stockade\.(policy|preset)$": ".*"}} if not {"--default", "--require"} & set(words) else {"always": True}
        return {"version": "1.0.0", "hook": hook, "when": when, "stages": ["createRuntime"]}
    return {"hooks": {"createRuntime": [hook]}}


def _words(args: argparse.Namespace) -> list[str]:
    """The command as a runtime must run it: by an absolute path."""
    program = str(Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute())
    words = [program, "oci-hook"]
    for name, value in (("--policies", args.policies), ("--default", args.default), ("--settings", args.settings)):
        if value is not None:
            words += [name, str(Path(value).absolute()) if isinstance(value, Path) else value]
    return [*words, *(f"--{name}" for name in ("require", "embedded") if getattr(args, name))]
