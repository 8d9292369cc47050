"""docs/threats.md from the table: attack, what holds it, where that is tried. `PYTHONPATH=tests python -m bypass.page` writes it."""

from __future__ import annotations

from collections.abc import Iterator

from bypass import table

PAGE = table.REPOSITORY / "docs/threats.md"
_MODULES = {
    "sockets": "test_sockets.py",
    "escapes": "test_escapes.py",
    "execs": "test_execs.py",
    "wire": "test_wire.py",
    "conceded": "test_limits.py",
}
_HEAD = """\
# What is tried against a sandbox

Every attack that we know of, what holds it, and the test that tries it. Made from `tests/bypass/attacks` and `tests/golden/vectors`; a test
fails when this page is not.

An attack is tried twice. First where nothing is enforced, as root on the machine itself: there it must get out, or the table says why the
kernel refuses it anyway; an attack that never gets out proves nothing. Then in a sandbox, as its user and as uid 0 inside: nothing of it
may arrive at a listener outside, nor in any frame on the wire between, and the audit must say why. `pytest tests/bypass` ends with the
account: how many were tried and held, which limits are documented, what was skipped and why.

**limit** is not held, and [SECURITY.md](../SECURITY.md) says so. **pending** waits for something that is not built.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _tests(row: table.Row) -> str:
    if row.pending:
        return f"**pending**: {row.pending}"
    said = [f"`tests/bypass/{_MODULES[row.battery]}` [{row.id}]"] if row.battery else []
    said += [f"`{table.VECTOR_TEST}` [{row.id}]"] if row.vectors else []
    said += [f"`{node}`" for node in row.shown_by]
    return "<br>".join([f"**limit**: {row.limit}", *said] if row.limit else said)


def _lines() -> Iterator[str]:
    yield _HEAD
    for section in table.sections():
        yield f"## {section.title}\n"
        yield "| id | attack | what holds it | tried by |"
        yield "|---|---|---|---|"
        for row in section.rows:
            yield f"| {row.id} | {_cell(row.attack)} | {_cell(row.held)} | {_cell(_tests(row))} |"
        yield ""


def page() -> str:
    return "\n".join(_lines())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
