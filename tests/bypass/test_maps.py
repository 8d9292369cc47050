"""No map of the kernel's side forgets an entry by itself: what is evicted would be a verdict that flips."""

from __future__ import annotations

import re

import pytest

from stockade import resources


@pytest.mark.attack("map-eviction")
def test_no_map_that_decides_forgets_by_itself() -> None:
    text = "\n".join(path.read_text() for path in sorted(resources.BPF.rglob("*.[ch]")))
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    assert re.search(r"BPF_\w+\(events,", code), "the maps are where this test looks"
    assert not re.search(r"\bLRU\b|_LRU|LRU_|\"lru", code, re.I)
