"""Names in another root: no link of a container leads out of it, and globs mean what they mean on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.sandbox.root import Foreign, Host


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, Foreign]]:
    inside = tmp_path / "root"
    (inside / "usr/bin").mkdir(parents=True)
    (inside / "etc").mkdir()
    (inside / "etc/shadow").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    for name in ("python3", "python3.11", "python3.12", ".hidden"):
        (inside / "usr/bin" / name).write_text(name)
    (inside / "bin").symlink_to("/usr/bin")  # absolute: of the container
    (inside / "up").symlink_to("../../../../../../etc")
    (inside / "away").symlink_to(tmp_path / "outside")
    (inside / "magic").symlink_to("/proc/self/root/etc/passwd")
    (inside / "circle").symlink_to("circle")
    descriptor = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield inside, Foreign(descriptor)
    os.close(descriptor)


def read(root: Foreign, path: str) -> str:
    descriptor = root.open(path, os.O_RDONLY)
    with open(descriptor) as file:  # noqa: PTH123
        return file.read()


@pytest.mark.parametrize("path", ["/etc/shadow", "/../../etc/shadow", "/up/shadow", "/bin/../../etc/shadow"])
def test_every_way_leads_inside(root: tuple[Path, Foreign], path: str) -> None:
    assert read(root[1], path) == "inside"


@pytest.mark.parametrize("path", ["/away", "/magic", "/circle", "/missing", "/etc/passwd"])
def test_and_none_outside(root: tuple[Path, Foreign], path: str) -> None:
    with pytest.raises(OSError):
        root[1].open(path, os.O_RDONLY)


def test_a_file_is_called_as_the_container_calls_it(root: tuple[Path, Foreign]) -> None:
    descriptor = root[1].open("/bin/python3", os.O_RDONLY)
    assert root[1].real("/bin/python3", descriptor) == "/usr/bin/python3"
    os.close(descriptor)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/usr/bin/python3.*", ["/usr/bin/python3.11", "/usr/bin/python3.12"]),
        ("/bin/python3.1?", ["/bin/python3.11", "/bin/python3.12"]),
        ("/*/bin/python3", ["/usr/bin/python3"]),
        ("/usr/bin/*dden", []),
        ("/usr/bin/.h*", ["/usr/bin/.hidden"]),
        ("/usr/bin/python3", ["/usr/bin/python3"]),
        ("/usr/bin/python4", []),
        ("/up/sh*", ["/up/shadow"]),
        ("/missing/*", []),
        ("/etc/shadow/*", []),
    ],
)
def test_globs(root: tuple[Path, Foreign], pattern: str, found: list[str]) -> None:
    assert root[1].matching(pattern) == found


def test_the_machines_own_root_is_one_too() -> None:
    assert "/usr/bin/env" in Host().matching("/usr/bin/en?")
    assert Host().matching("/usr/bin/no-such-program") == []
