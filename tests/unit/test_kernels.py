"""What docs/kernels.md says of kernels, against the results that are kept of the runs on them."""

from __future__ import annotations

from vm.results import kept
from vm.table import PAGE, page


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(kept()), "python tests/vm/table.py writes it, and prints its short table"
