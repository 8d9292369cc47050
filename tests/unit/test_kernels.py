"""What docs/kernels.md and README say of kernels, against the results that are kept of the runs on them."""

from __future__ import annotations

from vm.results import kept
from vm.table import PAGE, README, page, short


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(kept()), "python tests/vm/table.py writes it"


def test_the_table_of_readme_too() -> None:
    assert short(kept()) in README.read_text(encoding="utf-8"), "python tests/vm/table.py writes it"
