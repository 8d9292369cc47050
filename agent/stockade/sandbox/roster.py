"""Who may run: the names of a policy resolved to files, each with the number the kernel will tag its processes with.

A binary is the file that the kernel executes, not a name. Names are looked up as the sandbox would (its PATH, symlinks, globs), opened, and
kept open while enrolled so that the inode cannot be given to another file. A shebang script is the pair of its interpreter and itself.
Knows no kernel map: the agent enrols what stands here.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stockade.policy import Families, Policy
from stockade.sandbox.root import Host, Root
from stockade.types import Binary, Outcome, Reason

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOADERS = ("/lib64/ld-linux*.so*", "/lib/ld-linux*.so*", "/lib/ld-musl-*.so*", "/lib/*/ld-*.so*", "/usr/lib64/ld-linux*.so*")
_HASHES = Path("/var/cache/stockade/sha256.json")


@dataclass(frozen=True, slots=True)
class File:
    """An open executable. stat numbers key the hash cache; the kernel's own key is learnt from the descriptor."""

    path: str
    descriptor: int
    sha256: str
    interpreter: tuple[str, ...]  # the words of its first line; empty for a binary


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One identity. number: what the kernel tags with. file: the executable (for a script its interpreter). runs: on its own.

    scripts: the spellings under which a script may be started; carrier: the shebang names env(1), which passes the script on.
    """

    number: int
    binary: Binary
    file: File
    runs: bool
    interpreter: int = 0  # number of the bare interpreter, for a script
    scripts: tuple[str, ...] = ()
    script_number: int = 0
    carried: bool = False
    carrier: bool = False
    isolated: bool = False  # a Python script: must be started with PYTHONNOUSERSITE, or packages below $HOME are part of it


@dataclass(slots=True)
class Roster:
    """Every identity of one sandbox by number. missing: names of the policy that resolved to nothing here."""

    enrolments: dict[int, Enrolment] = field(default_factory=dict)
    loaders: tuple[File, ...] = ()
    missing: tuple[str, ...] = ()
    descriptors: list[int] = field(default_factory=list)  # of all that was opened for it

    def close(self) -> None:
        """Let go of its files. May be called twice."""
        while self.descriptors:
            HELD.let_go(self.descriptors.pop())

    def binary(self, number: int) -> Binary | None:
        enrolment = self.enrolments.get(number)
        return enrolment.binary if enrolment else None

    def __iter__(self) -> Iterator[Enrolment]:
        return iter(self.enrolments.values())


class Held:
    """Files that are open, once each however many rosters name them: while one is, no other gets its inode's number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptors: dict[tuple[int, int], int] = {}
        self._files: dict[int, tuple[int, int]] = {}
        self._holders: Counter[int] = Counter()

    def share(self, descriptor: int, state: os.stat_result) -> int:
        """The descriptor to use for this file: this one, or one that was there, and then this one is closed."""
        key = state.st_dev, state.st_ino
        with self._lock:
            shared = self._descriptors.setdefault(key, descriptor)
            self._files[shared] = key
            self._holders[shared] += 1
        if shared != descriptor:
            os.close(descriptor)
        return shared

    def let_go(self, descriptor: int) -> None:
        """Closes it when nobody else holds it."""
        with self._lock:
            self._holders[descriptor] -= 1
            if self._holders[descriptor] > 0:
                return
            del self._holders[descriptor], self._descriptors[self._files.pop(descriptor)]
        os.close(descriptor)


HELD = Held()  # by this process


class Resolver:
    """Resolves a policy's names once, at start: exec is static."""

    def __init__(self, policy: Policy, families: Families, search: str = PATH, *, weak: bool = False, root: Root | None = None) -> None:
        self._policy, self._families, self._search = policy, families, search.split(":")
        self._root: Root = root or Host()
        self._identity = "weak" if weak else "strong"
        self._hashes = _Hashes()
        self._opened: dict[tuple[int, int], File] = {}
        self._files: dict[tuple[int, int], File] = {}  # those that the policy names
        self._names: dict[tuple[int, int], list[str]] = {}
        self._spellings: dict[tuple[int, int], list[str]] = {}
        self._helpers: set[tuple[int, int]] = set()

    def roster(self, command: str | None) -> Roster:
        """Everything the policy names that exists here; command: CMD's own file, which runs unless exec.deny names it."""
        missing = tuple(name for name in self._policy.binary_names() if not self._add(name))
        for helper in [helper for name in self._policy.exec.allow for helper in self._families.expand(name).helpers]:
            self._helpers.update(self._add(helper))
        own = self._own(command) if command else None
        roster = Roster(missing=missing)
        number = 0
        scripts: list[tuple[tuple[int, int], File]] = []
        by_file: dict[tuple[int, int], Enrolment] = {}

        def enrol(enrolment: Enrolment) -> Enrolment:
            roster.enrolments[enrolment.number] = enrolment
            return enrolment

        for key, file in list(self._files.items()):
            if file.interpreter:
                scripts.append((key, file))
                continue
            number += 1
            binary = self._binary(self._names[key], file.path, None, file.sha256)
            by_file[key] = enrol(Enrolment(number, binary, file, self._runs(binary, key, own)))
        for script_number, (key, file) in enumerate(scripts, start=1):
            chain = self._chain(file)
            for step, interpreter in enumerate(chain):
                at = self._key(interpreter)
                if at not in by_file:
                    number += 1
                    bare = self._binary(self._names.get(at, []), interpreter.path, None, interpreter.sha256)
                    by_file[at] = enrol(Enrolment(number, bare, interpreter, self._runs(bare, at, own)))
                number += 1
                # what an interpreter is allowed, every script it runs is allowed: its names count for the pair too
                names = [*self._names[key], *self._names.get(at, [])]
                isolated = Path(chain[-1].path).name.startswith(("python3", "pypy3"))
                # other interpreters read code from where the sandbox can write (~/.npm-init.js), and nothing shows it
                pair = self._binary(names, interpreter.path, file.path, file.sha256, None if isolated else "weak")
                carrier = step == 0 and len(chain) == 2
                if self._runs(pair, key, own):
                    spellings = tuple(self._spellings[key])
                    bare_number = by_file[at].number
                    enrol(Enrolment(number, pair, interpreter, True, bare_number, spellings, script_number, step == 1, carrier, isolated))
        roster.loaders = tuple(loader for pattern in LOADERS for path in self._root.matching(pattern) if (loader := self._open(path)))
        roster.descriptors = [file.descriptor for file in self._opened.values()]
        self._hashes.save()
        return roster

    def _binary(self, names: list[str], path: str, script: str | None, sha256: str, identity: str | None = None) -> Binary:
        base = Path(script or path).name
        known = dict.fromkeys(names) or dict.fromkeys([base])
        return Binary(next(iter(known)), frozenset(known), path, script, sha256, identity or self._identity)

    def _runs(self, binary: Binary, key: tuple[int, int], own: tuple[int, int] | None) -> bool:
        decision = self._policy.may_exec(binary)
        if decision.reason is Reason.EXEC_UNLISTED:
            return key == own or key in self._helpers
        return decision.outcome is Outcome.ALLOW

    def _own(self, command: str) -> tuple[int, int] | None:
        for path in self._candidates(command):
            opened = self._open(path)
            if opened is not None:
                key = self._key(opened)
                self._files.setdefault(key, opened)
                self._names.setdefault(key, [Path(path).name])
                self._spell(key, path, opened)
                return key
        return None

    def _add(self, name: str) -> set[tuple[int, int]]:
        """Take up every file of this name; the keys of those that exist."""
        family = self._families.expand(name)
        found = set()
        for pattern in (*family.executables, *family.scripts):
            for path in self._candidates(pattern):
                if (file := self._open(path)) is None:
                    continue
                key = self._key(file)
                found.add(key)
                self._files.setdefault(key, file)
                names = self._names.setdefault(key, [])
                if name not in names:
                    names.append(name)
                self._spell(key, path, file)
        return found

    def _spell(self, key: tuple[int, int], path: str, file: File) -> None:
        """A script is known by the path it is started by: every PATH entry that leads to it, and its own."""
        spellings = self._spellings.setdefault(key, [])
        for spelling in (path, self._root.real(path, file.descriptor)):
            if spelling not in spellings:
                spellings.append(spelling)

    def _candidates(self, pattern: str) -> Iterable[str]:
        patterns = [pattern] if "/" in pattern else [f"{directory}/{pattern}" for directory in self._search]
        for each in patterns:
            yield from self._root.matching(each)

    @staticmethod
    def _key(file: File) -> tuple[int, int]:
        state = os.fstat(file.descriptor)
        return state.st_dev, state.st_ino

    def _open(self, path: str) -> File | None:
        """None for what cannot be executed: no such file, not a regular one, no execute bit."""
        try:
            descriptor = self._root.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        state = os.fstat(descriptor)
        key = (state.st_dev, state.st_ino)
        if key in self._opened or not stat.S_ISREG(state.st_mode) or not state.st_mode & 0o111:
            os.close(descriptor)
            return self._opened.get(key)
        descriptor = HELD.share(descriptor, state)
        head = os.pread(descriptor, 256, 0)
        words = head[2:].split(b"\n", 1)[0].split() if head.startswith(b"#!") else []
        interpreter = tuple(os.fsdecode(word) for word in words)
        self._opened[key] = File(self._root.real(path, descriptor), descriptor, self._hashes.of(descriptor, state), interpreter)
        return self._opened[key]

    def _chain(self, script: File) -> list[File]:
        """The executables a script passes through: [interpreter], or [env, interpreter] for `#!/usr/bin/env NAME`."""
        first = self._open(script.interpreter[0])
        if first is None or first.interpreter:
            return []
        if Path(script.interpreter[0]).name == "env" and len(script.interpreter) == 2:
            second = next((file for path in self._candidates(script.interpreter[1]) if (file := self._open(path))), None)
            return [first, second] if second and not second.interpreter else [first]
        return [first]


class _Hashes:
    """SHA-256 of files, remembered by device, inode, size and change time: a node of 100 MB takes a tenth of a second each start."""

    def __init__(self) -> None:
        self._changed = False
        try:
            state = _HASHES.stat()
            trusted = state.st_uid == 0 and not state.st_mode & 0o022
            known = json.loads(_HASHES.read_text()) if trusted else {}
            self._known: dict[str, str] = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            self._known = {}

    def of(self, descriptor: int, state: os.stat_result) -> str:
        key = f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_ctime_ns}"
        if (known := self._known.get(key)) is not None:
            return known
        with open(os.dup(descriptor), "rb") as file:  # noqa: PTH123 (a descriptor)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[key] = digest
        self._changed = True
        return digest

    def save(self) -> None:
        if not self._changed:
            return
        try:
            _HASHES.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = _HASHES.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            temporary.touch(0o600)
            temporary.write_text(json.dumps(self._known))
            temporary.rename(_HASHES)
        except OSError:
            return
