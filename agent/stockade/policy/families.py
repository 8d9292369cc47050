"""Families: which files a binary's name in a policy stands for, and which variables steer code into a binary.

Reads policies/, opens no binary.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from stockade import resources
from stockade.policy.format.document import Findings, Listing, Mapping, Node, Scalar, compose
from stockade.policy.format.problems import PolicyError

SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")  # where PATH leads on most systems


@dataclass(frozen=True, slots=True)
class Family:
    """executables and scripts: absolute paths or globs, or base names (with globs) to be searched in PATH.

    A script matches only when the kernel started it through its shebang. interpreter: runs whatever code it is given. helpers: names of
    programs that a member starts and does not work without; they may run where it may, and match no rule of it.
    """

    name: str
    executables: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    interpreter: bool = False
    helpers: tuple[str, ...] = ()

    def lists(self, spelling: str) -> bool:
        """Whether a base name or absolute path is one of the entries, or fits a glob of them."""
        return any(fnmatchcase(spelling, entry) for entry in (*self.executables, *self.scripts))


@dataclass(frozen=True, slots=True)
class Families:
    """Names for several spellings of a program. by_name: by the name of the family."""

    by_name: dict[str, Family]

    def expand(self, name: str) -> Family:
        """A name that is no family stands for itself: a base name in PATH, or an absolute path."""
        return self.by_name.get(name) or Family(name, (name,))

    def names(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    def of(self, binary: str, names: Iterable[str] = ()) -> frozenset[str]:
        """Those of the families, and of a policy's own names, that a base name or absolute path belongs to by its spelling.

        For `explain`, which sees no sandbox: the agent itself enrols the files that it finds, with symlinks followed.
        """
        candidates = {*self.by_name, *names}
        return frozenset(name for name in candidates if any(self.expand(name).lists(spelling) for spelling in spelt(binary)))


def started_by(ancestors: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of the paths of a process's ancestors is a file that one of the names stands for."""
    families = load_families()
    wanted = [families.expand(name) for name in names]
    return any(family.lists(spelling) for path in ancestors for spelling in spelt(path) for family in wanted)


def spelt(path: str) -> frozenset[str]:
    """How a family's entries may mean a file: by its path, and by its base name where PATH leads."""
    directory, _, base = path.rpartition("/")
    return frozenset({path, base}) if directory in ("", *SEARCHED) else frozenset({path})


@functools.cache
def load_families() -> Families:
    """The families of policies/binaries.yaml. Raises PolicyError when that file is broken."""
    findings = Findings()
    families: dict[str, Family] = {}
    root = _read("binaries.yaml", findings)
    for key, value in root if isinstance(root, Mapping) else ():
        lists: dict[str, Node] = {name.text: node for name, node in value} if isinstance(value, Mapping) else {}
        interpreter = lists.pop("interpreter", None)
        if not lists or lists.keys() - {"executables", "scripts", "helpers"}:
            findings.add(key.place, "bad_family", f"`{key.text}` needs lists", accepted="executables, scripts, helpers, interpreter: true")
        executables, scripts, helpers = (_texts(lists.get(name)) for name in ("executables", "scripts", "helpers"))
        runs_code = isinstance(interpreter, Scalar) and interpreter.text == "true"
        families[key.text] = Family(key.text, executables, scripts, runs_code, helpers)
    if findings.failed:
        raise PolicyError(findings.problems)
    return Families(families)


@functools.cache
def loader_variables() -> tuple[str, ...]:
    """Names of variables that make a program load or run foreign code; a trailing `*` stands for any ending. Raises PolicyError."""
    findings = Findings()
    names = _texts(_read("loader_variables.yaml", findings))
    if findings.failed:
        raise PolicyError(findings.problems)
    return names


def _read(name: str, findings: Findings) -> Node | None:
    path: Path = resources.POLICIES / name
    return compose(path.read_bytes(), str(path), findings)


def _texts(node: Node | None) -> tuple[str, ...]:
    return tuple(item.text for item in node.items if isinstance(item, Scalar)) if isinstance(node, Listing) else ()
