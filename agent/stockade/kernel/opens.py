"""What bpf/opens.c counts: which directories, and how the counts are read. Knows no policy and writes no record.

A count only grows, for as long as the sandbox lives; how much of it is on record stands beside it. So none is lost between two readings,
whoever counts meanwhile, and the agent after this one goes on where it left off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stockade.kernel import abi, syscall

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Opened:
    """Opens by one binary below one directory that are not on record yet.

    directory: its place in what was asked for, None where it cannot be told. identity 0: of a process without one, and what was beyond
    OPENS_APART.
    """

    sandbox: int
    directory: int | None
    identity: int
    times: int


class Opens:
    """The maps of bpf/opens.c, by their descriptors."""

    def __init__(self, directories: int, counts: int, told: int) -> None:
        self._directories, self._counts, self._told = directories, counts, told

    def ask(self, sandbox: int, directories: Sequence[abi.FileFacts]) -> None:
        """Count what this sandbox opens below these. Raises OSError when a map is full: nobody's entries are made here for that reason."""
        for place, facts in enumerate(directories):
            key = abi.BINARY_KEY.pack(sandbox, 0, facts.ino, facts.dev, facts.generation)
            syscall.map_update(self._directories, key, _U32.pack(place + 1))
        for number in (*range(1, len(directories) + 1), abi.OPEN_ROOM, abi.OPEN_UNKNOWN):  # the last one switches it on
            syscall.map_update(self._counts, abi.OPEN_KEY.pack(sandbox, number, 0, 0), _U64.pack(0))

    def news(self) -> list[Opened]:
        """What has been counted and is not on record. The same again, until `recorded` was called."""
        found = []
        for key in self._keys():
            sandbox, number, identity, _ = abi.OPEN_KEY.unpack(key)
            times = self._value(self._counts, key) - self._value(self._told, key)
            if number != abi.OPEN_ROOM and times > 0:
                found.append(Opened(sandbox, number - 1 if number else None, identity, times))
        return sorted(found, key=lambda opened: (opened.sandbox, opened.directory is None, opened.directory or 0, opened.identity))

    def recorded(self, opened: Opened) -> None:
        """These are on record now. Raises OSError: they will be told once more."""
        number = abi.OPEN_UNKNOWN if opened.directory is None else opened.directory + 1
        key = abi.OPEN_KEY.pack(opened.sandbox, number, opened.identity, 0)
        syscall.map_update(self._told, key, _U64.pack(self._value(self._told, key) + opened.times))

    @staticmethod
    def _value(fd: int, key: bytes) -> int:
        (value,) = _U64.unpack(syscall.map_lookup(fd, key, _U64.size) or bytes(_U64.size))
        return int(value)

    def _keys(self) -> Iterator[bytes]:
        """Nobody deletes one; what is inserted meanwhile is found now or the next time."""
        key = None
        while (key := syscall.map_next_key(self._counts, key, abi.OPEN_KEY.size)) is not None:
            yield key
