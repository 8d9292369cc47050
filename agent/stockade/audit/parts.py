"""The files of one trail: PATH.000001, PATH.000002 … that were closed, oldest first, and PATH, which is being written.

Owns their names and how they are read in order while a writer rotates them. A file never changes its content by being rotated, only its
name: whoever has it open reads on to its end and goes on with the next.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_NUMBER = re.compile(r"\.(\d{6,})\Z")
_SETTLES = 0.05  # seconds in which a writer that is between two steps has made the second


def closed(path: Path) -> list[int]:
    """The numbers of the closed files of a trail, oldest first."""
    found = []
    try:
        for other in path.parent.iterdir():
            if other.name.startswith(f"{path.name}.") and (number := _NUMBER.fullmatch(other.name[len(path.name) :])):
                found.append(int(number[1]))
    except FileNotFoundError:
        pass
    return sorted(found)


def numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number:06d}")


def trail_of(path: Path) -> Path:
    """The trail that a file belongs to: PATH for PATH.000001."""
    return path.with_name(_NUMBER.sub("", path.name))


def trails(path: Path) -> list[Path]:
    """The trails that a path names: itself, or all in a directory, by name."""
    if not path.is_dir():
        return [trail_of(path)]
    heads = {other.with_name(other.name.removesuffix(".head")) for other in path.glob("*.head")}
    return sorted(heads | {trail_of(other) for other in (*path.glob("*.jsonl"), *path.glob("*.jsonl.*")) if _is_file_of_one(other.name)})


def _is_file_of_one(name: str) -> bool:
    """Sinks may write files there too, and rotate them."""
    return _NUMBER.sub("", name).endswith(".jsonl")


def following(path: Path, number: int) -> int:
    """The number of the file after a closed one: the next that is there, or that of PATH itself."""
    there = closed(path)
    return next((other for other in there if other > number), (there[-1] if there else 0) + 1)


def opened(path: Path, number: int) -> BinaryIO:
    """The file of that number, closed or PATH itself. Raises OSError."""
    for attempt in range(3):
        try:
            return numbered(path, number).open("rb")
        except FileNotFoundError:
            pass
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if attempt == 2:
                raise
            time.sleep(_SETTLES)  # it has just been renamed, and the next is not there yet
            continue
        if not numbered(path, number).exists():
            return file
        file.close()  # it was renamed between the two looks, and this is the one after it
    return numbered(path, number).open("rb")


def files(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Every file of a trail in order, each with the name that it had when it was opened, closed when the next is asked for. Raises OSError.

    One that is rotated meanwhile may come twice, the second time with what was written to it after its end was read; what is begun after it
    comes next.
    """
    there = closed(path)
    number = there[0] if there else 1
    while True:
        with opened(path, number) as file:
            name = numbered(path, number)
            was_closed = name.exists()
            yield (name if was_closed else path), file
            if not name.exists():
                return
            if not was_closed and file.tell() < os.fstat(file.fileno()).st_size:  # written after its end was read, and before it was closed
                yield name, file
        number = following(path, number)
        if number not in closed(path) and not path.exists():
            time.sleep(_SETTLES)
            if not path.exists() and number not in closed(path):  # PATH is missing: what is pinned tells whether something was in it
                return
