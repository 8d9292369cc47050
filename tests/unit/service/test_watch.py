"""What counts as a change: every way in which files are replaced, and none in which they are merely looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.service.watch import Watch


def watching(*paths: Path) -> Watch:
    """A watch that has read these, some time after they were written."""
    for path in paths:
        if path.exists():
            os.utime(path, ns=(1, 1))
    watch = Watch()
    read(watch, *paths)
    return watch


def read(watch: Watch, *paths: Path) -> None:
    with watch.reading() as named:
        named += paths


def overwritten(file: Path) -> None:
    file.write_text("b")


def grown(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("b")


def replaced(file: Path) -> None:
    """By a file of the same size and time."""
    new = file.with_suffix(".new")
    new.write_text("b")
    os.utime(new, ns=(1, 1))
    new.rename(file)


def deleted(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [overwritten, grown, replaced, deleted])
def test_a_change_counts_once_it_has_settled(tmp_path: Path, change: Callable[[Path], None]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("a")
    watch = watching(file)
    assert [watch.look(), watch.look()] == [False, False]
    change(file)
    assert [watch.look(), watch.look()] == [False, True]
    read(watch, file)
    assert [watch.look(), watch.look(), watch.look()] == [False, False, False], "read once, also when it could not be read"


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("a")
    watch = watching(file)
    for _ in range(5):
        grown(file)
        assert not watch.look()
    assert watch.look()


def test_what_is_put_back_while_it_settles_is_no_change(tmp_path: Path) -> None:
    file, kept = tmp_path / "policy.yaml", tmp_path / "kept"
    file.write_text("a")
    watch = watching(file)
    file.rename(kept)
    assert not watch.look()
    kept.rename(file)
    assert [watch.look(), watch.look()] == [False, False]


def test_a_link_on_the_way_is_exchanged(tmp_path: Path) -> None:
    """A ConfigMap: policy.yaml → ..data/policy.yaml, and ..data → one of two directories."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "policy.yaml").write_text("same")
        os.utime(tmp_path / version / "policy.yaml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    watch = watching(tmp_path / "policy.yaml")
    (tmp_path / "..data.new").symlink_to("2")
    (tmp_path / "..data.new").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "1")
    assert [watch.look(), watch.look()] == [False, True]


def test_a_missing_file_that_appears_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    watch = watching(file)
    file.write_text("a")
    assert [watch.look(), watch.look()] == [False, True]


def test_a_loop_of_links_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").symlink_to("policy.yaml")
    watch = watching(tmp_path / "policy.yaml")
    assert not watch.look()


def test_a_file_first_read_while_it_was_young_is_read_once_more(tmp_path: Path) -> None:
    """It may have changed between the reading and the first look at it."""
    file = tmp_path / "base.yaml"
    watch = Watch()
    with watch.reading() as named:
        file.write_text("a")
        named.append(file)
    assert watch.look()
    read(watch, file)
    assert [watch.look(), watch.look()] == [False, False]


def test_what_is_no_longer_named_is_no_longer_watched(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    for file in (old, new):
        file.write_text("a")
    watch = watching(old, new)
    read(watch, new)
    old.unlink()
    assert [watch.look(), watch.look()] == [False, False]


def test_a_reading_that_fails_narrows_nothing(tmp_path: Path) -> None:
    """It ended before it came to what the last good one had read."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    for file in (first, second):
        file.write_text("a")
    watch = watching(first, second)
    with pytest.raises(OSError), watch.reading() as named:
        named.append(first)
        raise OSError
    assert [watch.look(), watch.look()] == [False, False]
    overwritten(second)
    assert [watch.look(), watch.look()] == [False, True]
