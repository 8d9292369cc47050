"""Documents: both parsers read the same, every node knows its place, and no line is other than it looks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade import resources
from stockade.policy.format import document
from stockade.policy.format.document import MAX_BYTES, Findings, Listing, Mapping, Node, Scalar, compose

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "policy"
FILES = sorted([*GOLDEN.glob("*.yaml"), *resources.POLICIES.rglob("*.yaml")])


def read(data: bytes | str) -> tuple[Node | None, Findings]:
    findings = Findings()
    return compose(data if isinstance(data, bytes) else data.encode(), "file.yaml", findings), findings


def found(data: bytes | str) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.line, problem.column) for problem in read(data)[1].problems]


def both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Node | None, list[tuple[str, int]]]]:
    answers = []
    for parser in (yaml.CSafeLoader, yaml.SafeLoader):
        monkeypatch.setattr(document, "PARSER", parser)
        root, findings = read(data)
        answers.append((root, [(problem.code, problem.line) for problem in findings.problems]))
    return answers


def plain(node: Node) -> object:
    """Without places: where a value stands that is not there, the two see differently."""
    match node:
        case Mapping():
            return {key.text: plain(value) for key, value in node}
        case Listing():
            return [plain(item) for item in node.items]
    return (node.text, node.kind)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_libyaml_and_the_pure_parser_read_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, pure = both(path.read_bytes(), monkeypatch)
    assert fast == pure


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab:-# \n[]{},\"'&*!|>?%1é\u2028"), max_size=40))
def test_a_text_that_both_parsers_read_is_one_to_them(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        (fast, told), (pure, told_too) = both(text.encode(), monkeypatch)
    if fast is not None and pure is not None:  # what they stumble over differs in YAML's corners
        assert told == told_too
        assert told or plain(fast) == plain(pure)


def test_every_node_knows_its_place() -> None:
    root, findings = read("a: [x, 'y']\nb:\n  - c: 1\n")
    assert not findings.problems and isinstance(root, Mapping)
    (a, listing), (b, below) = root
    assert isinstance(listing, Listing) and isinstance(below, Listing)
    x, y = listing.items
    assert [(node.place.line, node.place.column) for node in (root, a, listing, x, y, b, below)] == [
        *((1, 1), (1, 1), (1, 4), (1, 5), (1, 8)),
        *((2, 1), (3, 3)),
    ]
    assert x.place.source == "a: [x, 'y']" and x.place.path == "file.yaml"


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("text", "text"),
        ("'1'", "text"),
        ("1", "number"),
        ("0x1F", "number"),
        ("yes", "true or false"),
        ("~", "nothing"),
        ("", "nothing"),
        ("1.5", "other"),
        ("2026-11-27", "other"),
    ],
)
def test_a_scalar_is_of_the_kind_that_yaml_takes_it_for(written: str, kind: str) -> None:
    root, _ = read(f"key: {written}\n")
    assert isinstance(root, Mapping)
    ((_, value),) = root
    assert isinstance(value, Scalar) and value.kind == kind


def test_a_value_under_a_repeated_key_is_read_too() -> None:
    assert found("a: {x: 1, x: 2}\na: {y: 1, y: 2}\n") == [("duplicate_key", 1, 11), ("duplicate_key", 2, 11), ("duplicate_key", 2, 1)]


def test_a_key_that_is_no_text_is_one_finding() -> None:
    assert found("[a]: 1\nb: 2\n") == [("wrong_type", 1, 1)]
    assert found("&x a: 1\n*x : 2\n") == [("anchor", 1, 1), ("alias", 2, 1)]


@pytest.mark.parametrize(
    "character",
    ["\u202e", "\u2066", "\u200b", "\u061c", "\u00ad", "\ufeff", "\U000e0041", "\u2028", "\x85", "\r"],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_what_makes_a_line_look_other_than_it_is_is_refused(character: str) -> None:
    assert ("hidden_character", 2, 4) in found(f"a: 1\n# x{character}mode: observe\n")


def test_line_ends_of_other_systems_are_fine() -> None:
    assert found(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == []


def test_a_text_that_nests_or_weighs_too_much_ends_quickly() -> None:
    assert found("[" * 100) == [("syntax", 1, 33)]
    assert [(code, line) for code, line, _ in found("[" * 1_000_000)] == [("syntax", 1)]  # libyaml's own limit, while it looks ahead
    assert [(code, line) for code, line, _ in found("{a: " * 100_000)] == [("syntax", 1)]
    assert found(b"#" * (MAX_BYTES + 1)) == [("too_large", 0, 0)]


@pytest.mark.parametrize(("text", "line", "column"), [("version: 1\nnetwork:\n\t- name: x\n", 3, 1), ("a:\n  - b:\n  \t  c: 1\n", 3, 3)])
def test_a_tab_is_called_one(text: str, line: int, column: int) -> None:
    """libyaml calls it a character that cannot start any token, and nobody sees which."""
    (problem,) = read(text)[1].problems
    assert (problem.code, problem.line, problem.column, problem.accepted) == ("syntax", line, column, "spaces")
    assert "a tab" in problem.message
