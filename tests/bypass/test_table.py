"""The table against the checklist, the tests, and the page that is made of it: nothing of it may lack a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import pytest

from bypass import battery, table
from bypass.page import PAGE, page

ROWS = table.rows()
BULLETS = [bullet for section in table.sections() for bullet in section.bullets]
JOINING = {
    "and",
    "also",
    "or",
    "other",
    "to",
    "of",
    "in",
    "with",
    "an",
    "Smuggling",
    "AF_PACKET",
    "meet",
    "the",
    "same",
    "rules",
    "sockets",
}


def definitions(tree: ast.Module) -> set[str]:
    return {item.name for item in tree.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))}


def attacks(name: str) -> set[str]:
    """The ids that inside/NAME.py, or the package NAME, performs: what it hands to attack(), raw() and tls(), and what its loops name."""
    texts = [text for path, text in battery.FILES.items() if path == f"{name}.py" or path.startswith(f"{name}/")]
    return set().union(*(_attacks(ast.parse(text)) for text in texts))


def _attacks(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("attack", "raw", "tls") and node.args:
            found |= _strings([node.args[0]])
    for node in tree.body:
        if isinstance(node, ast.For):
            over = node.iter.func.value if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Attribute) else node.iter
            if isinstance(over, ast.Dict):
                found |= _strings([key for key in over.keys if key])
            elif isinstance(over, ast.Tuple):
                found |= _strings(over.elts)
    return found


def _strings(nodes: Iterable[ast.expr]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_ids_are_names() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.id) and row.attack and row.held for row in ROWS)


@pytest.mark.parametrize("bullet", BULLETS)
def test_every_word_of_the_checklist_is_in_a_row(bullet: str) -> None:
    left = bullet
    for item in sorted({row.item for row in ROWS if row.bullet == bullet}, key=len, reverse=True):
        assert item in bullet, f"{item!r} is not in the bullet"
        left = left.replace(item, " ")
    assert set(re.findall(r"\w+", left)) <= JOINING, left


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_every_id_has_a_test(row: table.Row) -> None:
    """Performed by a battery, shown by a test that exists, decided by the vectors, a limit of SECURITY.md, or said to be pending."""
    assert row.battery or row.shown_by or row.vectors or row.limit or row.pending
    if row.battery:
        assert row.id in attacks(row.battery), f"inside/{row.battery}.py does not perform it"
        assert row.record, "what the audit says of it, or why nothing"
    for limit in filter(None, (row.limit, *row.without.values())):
        assert limit in " ".join((table.REPOSITORY / "SECURITY.md").read_text(encoding="utf-8").split()), limit
    for node in row.shown_by:
        file, _, name = node.partition("::")
        path = table.REPOSITORY / file
        assert path.is_file(), node
        assert name in definitions(ast.parse(path.read_text(encoding="utf-8"))), node


@pytest.mark.parametrize("name", sorted({row.battery for row in ROWS if row.battery}))
def test_every_attack_that_is_performed_has_a_row(name: str) -> None:
    given = {row.id for row in table.battery(name)}
    assert attacks(name) == given, attacks(name) ^ given


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=pytest.mark.attack(row.id)) for row in ROWS if row.pending])
def test_what_is_not_built_yet(row: table.Row) -> None:
    pytest.skip(f"{row.pending}")


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"python -m bypass.page writes {PAGE.name} anew (PYTHONPATH=tests)"
