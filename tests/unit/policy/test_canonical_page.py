"""docs/canonical-path.md is the definition: each row of its tables is run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import stockade.proxy.canonical
from stockade.policy.addresses import range_of
from stockade.policy.hosts import HostError, as_address, normalise_host, parse_pattern, too_broad
from stockade.policy.paths import allow_list, check_glob, deny_list
from stockade.proxy.canonical import canonical_path, readings

PAGE = Path(__file__).resolve().parents[3] / "docs/canonical-path.md"
TABLES = {"encodings", "readings", "globs", "hosts", "entries", "allowed"}


def rows(table: str) -> list[list[str]]:
    """The rows of a table below their heading, one text a cell; code loses its backticks when a cell is nothing else."""
    _, _, after = PAGE.read_text(encoding="utf-8").partition(f"<!-- table: {table} -->\n")
    lines = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> str:
    """What stands between backticks, with `\\x0a` and `{8192}` written out."""
    (found,) = re.findall("`([^`]+)`", cell)
    found = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), found)
    return re.sub(r"(.)\{(\d+)\}", lambda match: match[1] * int(match[2]), found)


def covered(cell: str) -> bool:
    assert cell in ("covered", "–")
    return cell == "covered"


def test_the_page_has_its_tables() -> None:
    assert set(re.findall("<!-- table: (.*) -->", PAGE.read_text(encoding="utf-8"))) == TABLES
    assert all(len(rows(table)) > 5 for table in TABLES)


@pytest.mark.parametrize("row", rows("encodings"), ids=lambda row: row[0])
def test_encodings(row: list[str]) -> None:
    _, says, raw, becomes = row
    refused = becomes.removeprefix("refused: ") if becomes.startswith("refused: ") else None
    assert says.startswith("refused") is (refused is not None)
    if refused is None:
        assert canonical_path(code(raw)) == code(becomes) == canonical_path(code(becomes))
    else:
        with pytest.raises(ValueError, match=f"^{re.escape(refused)}$"):
            canonical_path(code(raw))


def test_every_refusal_of_the_code_is_on_the_page() -> None:
    said = {becomes.removeprefix("refused: ") for *_, becomes in rows("encodings") if becomes.startswith("refused: ")}
    tree = ast.parse(Path(stockade.proxy.canonical.__file__).read_text(encoding="utf-8"))
    raised = {
        "".join(str(part.value) if isinstance(part, ast.Constant) else "8192" for part in getattr(call.args[0], "values", call.args))
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "ValueError"
    }
    assert {reason for reason in raised if not reason.startswith("query")} == said


@pytest.mark.parametrize("row", rows("readings"), ids=lambda row: row[0])
def test_readings(row: list[str]) -> None:
    path, listed = code(row[0]), re.findall("`([^`]+)`", row[1])
    assert canonical_path(path) == path == listed[0] == readings(path)[0]
    assert sorted(readings(path)) == sorted(listed)


@pytest.mark.parametrize("row", rows("globs"), ids=lambda row: f"{row[0]} {row[1]}")
def test_globs(row: list[str]) -> None:
    glob, path = code(row[0]), code(row[1])
    check_glob(glob)
    assert canonical_path(path) == path
    assert (allow_list([glob]).matches(path), deny_list([glob]).matches(path)) == (covered(row[2]), covered(row[3]))


@pytest.mark.parametrize("row", rows("hosts"), ids=lambda row: row[0])
def test_hosts(row: list[str]) -> None:
    if row[1] == "refused":
        with pytest.raises(ValueError):
            normalise_host(code(row[0]))
    else:
        assert normalise_host(code(row[0])) == code(row[1])


@pytest.mark.parametrize("row", rows("entries"), ids=lambda row: f"{row[0]} {row[1]}")
def test_entries(row: list[str]) -> None:
    assert parse_pattern(code(row[0])).matches(normalise_host(code(row[1]))) is covered(row[2])


@pytest.mark.parametrize("row", rows("allowed"), ids=lambda row: row[0])
def test_what_an_allow_list_may_hold(row: list[str]) -> None:
    try:
        pattern = parse_pattern(code(row[0]))
    except HostError as error:
        assert error.code == row[1]
        return
    address = as_address(pattern.value)
    found = "host_too_broad" if too_broad(pattern) else "address_refused" if address and range_of(address) else "accepted"
    assert found == row[1]
