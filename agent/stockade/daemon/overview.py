"""What runs on this machine, for whoever may look: what each sandbox's agent says of it, and those that are held and have no agent.

Root asks the agents itself. For a member of the group the daemon asks them, as root would, and tells what it was told.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection
from typing import Any

from stockade import __version__
from stockade.attach import berth
from stockade.daemon.front import GROUP
from stockade.kernel.load import mounted_bpffs
from stockade.sandbox.cgroup import HOSTED, Cgroup, mounted
from stockade.service.control import ANSWER, VERSION, ask, running
from stockade.service.listening import answers
from stockade.service.orphans import orphans
from stockade.service.settings import Settings
from stockade.types import StockadeError

PATIENCE = 5.0  # seconds for one agent: less than a guest of the daemon has

Json = dict[str, Any]


def overview(settings: Settings, named: Collection[str] = ()) -> Json:
    """{"daemon": {"version": …, "pid": …} or None, "sandboxes": [as `sandboxes` has them]}, of all or of those that are named.

    Raises StockadeError: one may not look, or one that was named is not there.
    """
    if os.geteuid() == 0:
        daemon = _daemon(settings)
        found: Json = {"daemon": daemon, "sandboxes": asyncio.run(sandboxes(settings, daemon is not None, named))}
    else:
        found = _through_the_daemon(settings)
    here = [str(each["sandbox"]) for each in found["sandboxes"]]
    for name in named:
        if name not in here:
            known = ", ".join(running(settings.control) if os.geteuid() == 0 else here) or "none"
            raise StockadeError(f"no sandbox called {name} is running", hint=f"running: {known}", code="no_sandbox")
    kept = [each for each in found["sandboxes"] if not named or each["sandbox"] in named]
    return {"daemon": found["daemon"], "sandboxes": kept}


def problems(daemon: Json | None) -> list[str]:
    """Of the daemon itself."""
    if daemon is None or daemon["version"] == __version__:
        return []
    why = f"it is {daemon['version']}, and {__version__} is installed: systemctl restart stockade"
    return [str(daemon.get("problem") or why)]


async def sandboxes(settings: Settings, daemon: bool, named: Collection[str] = ()) -> list[Json]:
    """{"sandbox": name, "status": …, "statistics": …} by name, then {"sandbox": name, "problem": words} of those with nobody to ask.

    daemon: whether there is one.
    """
    found: list[Json] = []
    for name in running(settings.control):
        if named and name not in named:
            continue
        try:
            async with asyncio.timeout(PATIENCE):
                status, statistics = await _asked(settings, name)
        except (FileNotFoundError, ConnectionError):  # it has just ended
            continue
        except (OSError, ValueError) as error:
            found.append({"sandbox": name, "problem": f"its agent does not answer: {error or 'in time'}"})
        else:
            found.append({"sandbox": name, "status": status, "statistics": statistics})
    return found + await asyncio.to_thread(_held, settings, daemon)


async def _asked(settings: Settings, name: str) -> tuple[Json, Json]:
    """Its status and its statistics. Raises OSError, ValueError."""
    reader, writer = await asyncio.open_unix_connection(settings.control / f"{name}.sock", limit=ANSWER)
    try:
        told = []
        for verb in ("status", "statistics"):
            writer.write(json.dumps({"v": VERSION, "verb": verb}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"null")
            if not isinstance(answer, dict) or not isinstance(answer.get("answer"), dict):
                raise ValueError("it broke off")
            told.append(answer["answer"])
        return told[0], told[1]
    finally:
        writer.close()


def _held(settings: Settings, daemon: bool) -> list[Json]:
    """Without an agent: they live, and reach nothing."""
    found: list[Json] = []
    if (settings.run / "slots").is_dir():
        for orphan in orphans(settings, mounted_bpffs(settings.run / "bpf")):
            hosted = any(mounted().glob(f"{HOSTED}-*/sandbox-{orphan.number}"))
            if hosted and daemon:
                what = f"the daemon did not take it over, as its log says; stockade sandbox kill {orphan.name}"
            else:
                what = "start the daemon, which takes over all that it finds" if hosted else f"stockade adopt {orphan.name}"
            why = f" ({orphan.problem})" if orphan.problem else ""
            found.append({"sandbox": orphan.name, "problem": f"held, without an agent{why}: {what}"})
    for cgroup in berth.left(settings.run / "attached"):
        what = f"stockade attach --cgroup /{cgroup.relative_to(mounted())} --policy FILE"
        if berth.order_of(settings.run / "attached", Cgroup(cgroup).id).exists():
            what = f"the daemon takes it over, or its log says why not: {what}" if daemon else f"start the daemon, or {what}"
        found.append({"sandbox": cgroup.name, "problem": f"held, without an agent: {what}"})
    return found


def _daemon(settings: Settings) -> Json | None:
    """None where there is none."""
    if not answers(settings.daemon):
        return None
    try:
        node = ask(settings.daemon.parent, settings.daemon.stem, "node")
    except StockadeError as error:
        return {"version": "", "pid": 0, "problem": error.message}
    return {"version": str(node["version"]), "pid": int(node["pid"])}


def _through_the_daemon(settings: Settings) -> Json:
    hint = f"sudo stockade …, or be a member of {GROUP} and have a daemon that was started when there was that group"
    try:
        return ask(settings.daemon.parent, settings.daemon.stem, "overview")
    except StockadeError as error:
        if error.code == "no_sandbox":
            raise StockadeError(f"root and the group {GROUP} may look, and there is no daemon to ask", hint=hint, code="not_root") from None
        if error.code == "not_root":
            raise StockadeError(f"root and the group {GROUP} may look", hint=hint, code="not_root") from None
        raise
