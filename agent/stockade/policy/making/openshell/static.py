"""What a policy of OpenShell's fixes at start, in ours: files and the user.

Its paths are those of a container. What every sandbox here has of its own is not taken from the host, and what is the host's stays away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from stockade.policy.making.openshell.reading import Foreign, Loss

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc")  # readable in every sandbox
_PRIVATE = ("/tmp", "/var/tmp", "/dev/shm", "/proc")  # each sandbox's own
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_NEVER = ("/sys", "/dev", "/run", "/boot")
_WORKDIR = "/sandbox"  # what theirs calls it
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}")


def files(foreign: Foreign, losses: list[Loss]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths to show, read-only and writable; what is lost is added to losses."""
    if foreign.files_place is None:
        return (), ()
    written = {_plain(text) for text, _ in foreign.write}
    workdir = foreign.include_workdir or _WORKDIR in written
    found: tuple[list[str], list[str]] = ([], [])
    for paths, kept in ((foreign.read, found[0]), (foreign.write, found[1])):
        for text, place in paths:
            path, writable = _plain(text), kept is found[1]
            if path == _WORKDIR or path in _DEVICES or _below(path, _PRIVATE) or (_below(path, _SYSTEM) and not writable):
                continue
            if why := _refused(path, writable=writable, workdir=workdir):
                losses.append(Loss("left_out", place, "file", f"{path} {why}"))
            elif path not in kept:
                kept.append(path)
    listed = {_plain(text) for text, _ in foreign.read} | written
    if not listed.issuperset({"/usr", "/etc"}):
        losses.append(Loss("left_out", foreign.files_place, "system_readable", "/usr and /etc are readable in every sandbox here"))
    if not workdir:
        message = "the workdir is not writable there; here it always is: run with --workdir and an empty directory"
        losses.append(Loss("left_out", foreign.files_place, "workdir", message))
    return tuple(found[0]), tuple(found[1])


def user(foreign: Foreign, losses: list[Loss]) -> str | None:
    """Whom the sandbox runs as; None leaves it to Stockade, which gives each sandbox a uid of its own."""
    if foreign.group is not None and (foreign.user is None or foreign.group[0] != foreign.user[0]):
        name, place = foreign.group
        losses.append(Loss("left_out", place, "group", f"run_as_group {name}: a sandbox's group is its user's own"))
    if foreign.user is None:
        return None
    text, place = foreign.user
    if text == "root" or not text.strip("0"):
        losses.append(Loss("left_out", place, "root", f"run_as_user {text}: no sandbox runs as root"))
        return None
    if not _USER.fullmatch(text):
        losses.append(Loss("left_out", place, "user", f"run_as_user {text} is no user"))
        return None
    return text


def _plain(text: str) -> str:
    return text.rstrip("/") or "/"


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


def _refused(path: str, *, writable: bool, workdir: bool) -> str:
    """Why a path stays away; empty when it is shown."""
    if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
        return "is no absolute path"
    if path == "/" or _below(path, _NEVER):
        return "is the host's: a sandbox has its own, or sees none of it"
    if writable and (_below(path, _SYSTEM) or path in ("/var", "/home")):
        return "is the host's system, which no sandbox writes"
    if not writable and workdir and _below(path, (_WORKDIR,)):
        return "lies in the workdir, which is writable as a whole here"
    return ""
