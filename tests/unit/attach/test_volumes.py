"""Whether a container could write a file of this machine, by what is mounted in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.attach.volumes import Mount, shown_as

HERE = [Mount("8:1", "/", "/", True), Mount("8:2", "/", "/srv", True), Mount("8:1", "/data/etc", "/etc/stockade", True)]


@pytest.mark.parametrize(
    ("path", "mount", "shown"),
    [
        ("/etc/web.yaml", Mount("8:1", "/etc", "/config", True), "/config/web.yaml"),
        ("/etc/web.yaml", Mount("8:1", "/etc/web.yaml", "/web", True), "/web"),
        ("/etc/web.yaml", Mount("8:1", "/", "/host", True), "/host/etc/web.yaml"),
        ("/etc/web.yaml", Mount("8:1", "/etc", "/config", False), None),  # read-only
        ("/etc/web.yaml", Mount("8:1", "/etcetera", "/config", True), None),
        ("/etc/web.yaml", Mount("8:2", "/", "/srv", True), None),  # another file system
        ("/srv/web.yaml", Mount("8:2", "/", "/work", True), "/work/web.yaml"),
        ("/etc/stockade/web.yaml", Mount("8:1", "/data", "/data", True), "/data/etc/web.yaml"),  # a bind mount here
        ("/etc/stockade/web.yaml", Mount("8:1", "/etc", "/config", True), None),
    ],
)
def test_a_file_is_shown_by_its_file_system(path: str, mount: Mount, shown: str | None) -> None:
    there = [Mount("0:9", "/", "/", True), mount]
    assert shown_as(Path(path), iter(there), iter(HERE)) == shown


def test_before_it_starts_only_what_is_below_its_root_counts() -> None:
    """Its mount namespace is still a copy of the machine's."""
    there = [*HERE, Mount("8:1", "/etc", "/run/c/rootfs/config", True)]
    assert shown_as(Path("/srv/web.yaml"), iter(there), iter(HERE), "/run/c/rootfs") is None
    assert shown_as(Path("/etc/web.yaml"), iter(there), iter(HERE), "/run/c/rootfs") == "/config/web.yaml"
