"""`stockade init`: a first policy for a project, asked for step by step, and a first sandbox under it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.setup import draft, found, trial

SUMMARY = (
    "Set Stockade up for a project: looks at the machine, the agents installed and the project, asks what is not plain, writes a policy, "
    "and shows one allowed and one refused request in a first sandbox. Exits with 2 when that could not be done."
)
EXAMPLES = """\
  sudo stockade init                                   # in the project's directory
  sudo stockade init --yes                             # what would be proposed, without a question
  sudo stockade init --agent claude --preset pypi --preset github --yes
  stockade init --agent none --yes --no-trial -o json  # only write the policy; needs no root
"""
NONE = "none"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's directory (default: the current one)")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="the policy to write (default: NAME.yaml beside the project)")
    parser.add_argument("--agent", metavar="NAME", help="claude, codex or gemini; none for a shell")
    parser.add_argument("--preset", action="append", metavar="NAME", help="presets to build on, instead of those the project seems to need")
    parser.add_argument("--router", choices=("on", "off"), help="whether calls to language models are classified")
    parser.add_argument("--model", help="the model of the local server that what is sensitive goes to")
    parser.add_argument("--force", action="store_true", help="write over a policy that is there")
    parser.add_argument("--no-trial", action="store_true", help="start no sandbox")
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing, take what is proposed")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print; json asks nothing")


def run(args: argparse.Namespace) -> int:
    from stockade.policy import load
    from stockade.setup import draft, trial

    if not args.project.is_dir():
        raise StockadeError(f"--project {args.project}: not a directory", code="no_project")
    asks = not args.yes and args.output == "text"
    if asks and not sys.stdin.isatty():
        hint = "stockade init --yes, and options for what should not be as proposed"
        raise StockadeError("there is nobody to ask", hint=hint, code="no_terminal")
    talk, project = _Talk(asks), args.project.resolve()
    if not args.no_trial:
        _ready(talk)
    choices = _choices(args, talk, project)
    named: Path = args.policy or project.parent / f"{choices.name}.yaml"
    path = named.parent.resolve() / named.name  # a link in its place is replaced, not followed
    if path.is_relative_to(project):
        hint = "name a file elsewhere with --policy"
        raise StockadeError(f"{path} lies in the project, where the agent could rewrite it", hint=hint, code="inside")
    _write(path, draft.policy(choices), force=args.force)
    load([path])  # what is written loads, or this is a bug that shows
    talk.say(f"written: {path}")
    outcome = None if args.no_trial else trial.tried(path)
    command = [
        "sudo",
        "stockade",
        "run",
        "--policy",
        str(path),
        "--workdir",
        str(project),
        "--",
        choices.agent.name if choices.agent else "bash",
    ]
    if args.output == "json":
        print(json.dumps(_told(path, choices, command, outcome), indent=2))
        return 0
    if outcome is not None:
        print("A first sandbox under it:")
    for asked in outcome or ():
        who, record = asked.record["binary"]["name"], asked.record
        print(f"  {asked.method} {asked.url} -> {asked.status}: {asked.body}")
        print(f"    on record: {record['action']} {record['decision']}, by {who}, level {record['level']}, {record['reason']}")
    print("Next:\n  " + " ".join(command))
    return 0


def _choices(args: argparse.Namespace, talk: _Talk, project: Path) -> draft.Choices:
    """What is found is said, what is not plain is asked, and what an option says is not."""
    from stockade.setup import draft, found

    agents, gpus, servers = found.installed(), found.gpus(), found.servers()
    for each in agents:
        talk.say(f"{each.agent.title}: {each.path}" + ("" if each.shown else ", which a sandbox does not see: --bind its directory"))
    talk.say(", ".join(f"{gpu.name} with {gpu.mebibytes} MiB" for gpu in gpus) or "no NVIDIA GPU: the classifier runs on the CPU")
    for server in servers:
        talk.say(f"{server.url} serves {', '.join(server.models) or 'no model yet'} ({server.api})")
    nemotron = found.proposal(gpus)
    if nemotron is not None and not servers:
        talk.say(f"no local model runs here; the GPU has room for {nemotron.model}: {nemotron.how}")
    agent = _agent(talk, args.agent, agents)
    presets = _presets(talk, args.preset, agent, found.presets_of(project))
    router = args.router == "on" if args.router else talk.confirm("Classify what is sent to language models?")
    if not router:
        return draft.Choices(project, agent, presets)
    local = talk.choose("Where shall go what must not leave this machine?", servers, [server.url for server in servers])
    model = args.model or (talk.choose("To which model?", local.models, local.models) if local else None)
    return draft.Choices(project, agent, presets, local, model, router)


class _Talk:
    """Says on standard error what is seen, and asks there; without anybody to ask, what is proposed is taken."""

    def __init__(self, asks: bool) -> None:
        self._asks = asks

    def say(self, text: str) -> None:
        print(f"- {text}", file=sys.stderr)

    def choose[T](self, question: str, values: Sequence[T], names: Sequence[str]) -> T | None:
        """The first unless somebody wants another; None when there is nothing to choose from."""
        if not values:
            return None
        if not self._asks or len(values) == 1:
            return values[0]
        print(question, file=sys.stderr)
        for number, name in enumerate(names, 1):
            print(f"  {number}) {name}", file=sys.stderr)
        while True:
            answer = self._line("[1] ")
            if not answer:
                return values[0]
            if answer.isdecimal() and 1 <= int(answer) <= len(values):
                return values[int(answer) - 1]
            if answer in names:
                return values[list(names).index(answer)]
            print(f"a number from 1 to {len(values)}, please", file=sys.stderr)

    def confirm(self, question: str) -> bool:
        while self._asks:
            answer = self._line(f"{question} [Y/n] ").lower()
            if answer in ("", "y", "yes"):
                return True
            if answer in ("n", "no"):
                return False
        return True

    def words(self, question: str, proposed: Sequence[str], known: Sequence[str]) -> list[str]:
        """Names, of which every one is known."""
        while self._asks:
            answer = self._line(f"{question} [{' '.join(proposed) or NONE}] ")
            wanted = answer.replace(",", " ").split()
            if not wanted:
                break
            if wanted == [NONE]:
                return []
            if not (unknown := [word for word in wanted if word not in known]):
                return wanted
            print(f"not known: {' '.join(unknown)}; there are {' '.join(known)}", file=sys.stderr)
        return list(proposed)

    def _line(self, prompt: str) -> str:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise StockadeError("ended before it was set up", hint="stockade init --yes asks nothing", code="no_terminal")
        return line.strip()


def _ready(talk: _Talk) -> None:
    """Whether a sandbox can be started at all. Raises StockadeError."""
    from stockade.kernel.probe import Answer, kernel_findings
    from stockade.service.machine import findings

    if os.geteuid() != 0:
        raise StockadeError("a first sandbox needs root", hint="sudo stockade init, or --no-trial", code="not_root")
    found = [*findings(), *kernel_findings()]
    missing = [each for each in found if each.fatal and each.answer is Answer.MISSING]
    if missing:
        first = missing[0]
        named = ", ".join(each.name for each in missing)
        raise StockadeError(f"this machine lacks {named}", hint=first.hint or "stockade doctor", code="lacking")
    holds = f"{sum(each.answer is Answer.AVAILABLE for each in found)} of {len(found)} checks"
    talk.say(f"this machine can hold a sandbox: {holds} (stockade doctor)")


def _agent(talk: _Talk, wanted: str | None, agents: Sequence[found.Installed]) -> found.Agent | None:
    from stockade.setup.found import AGENTS

    if wanted is not None:
        known = {agent.name: agent for agent in AGENTS}
        if wanted not in (NONE, *known):
            raise StockadeError(
                f"--agent {wanted}: not known", hint=f"{', '.join(known)}, or {NONE}: any other can be given rules by hand", code="no_agent"
            )
        return known.get(wanted)
    offered = [each.agent for each in agents]
    return talk.choose("Which agent?", [*offered, None], [*(agent.title for agent in offered), "none of these: a shell"])


def _presets(talk: _Talk, wanted: Sequence[str] | None, agent: found.Agent | None, project: Sequence[str]) -> tuple[str, ...]:
    from stockade.policy.presets import preset_names

    known = preset_names()
    if wanted is not None:
        if unknown := [name for name in wanted if name not in known]:
            raise StockadeError(f"--preset {unknown[0]}: not known", hint=f"there are {', '.join(known)}", code="no_preset")
        chosen = list(wanted)
    else:
        chosen = talk.words("What may it use? (`stockade presets` describes each)", project, known)
    model = [agent.preset] if agent is not None else []
    return tuple(dict.fromkeys([*model, *chosen]))


def _write(path: Path, text: str, *, force: bool) -> None:
    """Never through a link: root writes where others may have put one."""
    beside = path.with_name(path.name + ".new") if force else path
    try:
        if force:
            beside.unlink(missing_ok=True)
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except FileExistsError:
        raise StockadeError(f"{path} is there already", hint="--force writes over it, --policy names another", code="exists") from None
    except OSError as error:
        raise StockadeError(f"cannot write {path}: {error.strerror}", code="unwritable") from None


def _told(path: Path, choices: draft.Choices, command: Sequence[str], outcome: Sequence[trial.Asked] | None) -> dict[str, object]:
    requests = [{"method": asked.method, "status": asked.status, "record": asked.record} for asked in outcome or ()]
    return {
        "policy": str(path),
        "agent": choices.agent.name if choices.agent else None,
        "presets": list(choices.presets),
        "router": choices.router,
        "local": choices.local.url if choices.local else None,
        "command": list(command),
        "trial": requests if outcome is not None else None,
    }
