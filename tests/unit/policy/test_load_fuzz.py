"""The loader against what nobody would write: it loads or says where it cannot, and what loads can be used."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stockade.policy import PolicyError, decide, load
from stockade.policy.format.document import NOWHERE
from stockade.policy.format.show import as_text
from stockade.policy.model import Rule
from stockade.types import Binary, Request

REPOSITORY = Path(__file__).resolve().parents[3]


def documents() -> Iterator[Any]:
    """Policies that are shipped, and those of the golden files, which are wrong in every way that has a code."""
    for folder in ("policies/presets", "policies/examples", "tests/golden/policy"):
        for file in sorted((REPOSITORY / folder).glob("*.yaml")):
            if file.stem.endswith("_test"):
                continue
            try:
                document = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError, ValueError):
                continue
            if isinstance(document, dict | list):
                yield document


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


DOCUMENTS = list(documents())
PARTS = [part for document in DOCUMENTS for part in nodes(document)]
KEYS = sorted({key for part in PARTS if isinstance(part, dict) for key in part if isinstance(key, str)})
SCALARS = sorted(
    {part for part in PARTS if isinstance(part, str)}
    | {"", " ", "*", "**", "/", "//", ".", "..", "[::]", "~", "\u202e", "\x85", "é", "%2F"}
)

odd = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=8)
    | st.sampled_from([[], {}, [[]], [{}], {"a": {}}])
)
values = st.sampled_from(SCALARS) | st.sampled_from(PARTS) | odd


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A real policy with some of its parts taken away, put elsewhere, or replaced by parts of others."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(0, 3))):
        inner = [part for part in nodes(document) if isinstance(part, dict | list) and part]
        if not inner:
            break
        place = draw(st.sampled_from(inner))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        match draw(st.sampled_from(("take", "replace", "rename", "wrap", "add"))):
            case "take":
                del place[key]
            case "replace":
                place[key] = copy.deepcopy(draw(values))
            case "rename" if isinstance(place, dict):
                place[draw(st.sampled_from(KEYS))] = place.pop(key)
            case "wrap":
                place[key] = [place[key]]
            case _:
                added = copy.deepcopy(draw(values))
                if isinstance(place, dict):
                    place[draw(st.sampled_from(KEYS) | st.text(max_size=5))] = added
                else:
                    place.insert(key, added)
    return document


def loads(data: bytes, directory: Path) -> None:
    """Loads and can be used, or says where and what, with a code and the kind of thing that would be accepted."""
    file = directory / "fuzz.yaml"
    file.write_bytes(data)
    try:
        policy = load([file])
    except PolicyError as error:
        assert any(problem.severity == "error" for problem in error.problems)
        for problem in error.problems:
            assert problem.line >= 1 and problem.column >= 1, problem
            assert problem.code and problem.message
            assert all(character.isprintable() or character == "\n" for character in str(problem))
        return
    copy_of_it = pickle.loads(pickle.dumps(policy))  # noqa: S301 - our own bytes, as the worker gets them
    for host, port in (("api.example.com", 443), ("localhost", None), ("10.0.0.1", 80)):
        for binary in policy.network_names() or {"curl"}:
            request = Request(Binary.named(binary), host, port, "GET", "/")
            assert decide(request, copy_of_it) == decide(request, policy)
    for network, ports in policy.literals():
        assert network.prefixlen and ports
    file.write_text(as_text(policy), encoding="utf-8")
    again = load([file])
    assert placeless(again.rules) == placeless(policy.rules) and again.privacy == policy.privacy


def placeless(rules: tuple[Rule, ...]) -> list[Rule]:
    return [dataclasses.replace(rule, place=NOWHERE) for rule in rules]


@settings(max_examples=250)
@given(document=spoilt())
def test_a_policy_made_of_parts_of_others_loads_or_says_where_it_cannot(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    loads(yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass"), tmp_path_factory.getbasetemp())


SYNTAX = st.sampled_from(
    [*"[]{}:,-#&*!|>'\"%@`?~\n\t \r\0", "---", "...", "&a ", "*a", "!!python/object:os.system ", "<<: ", "\ufeff", "\u2028", "- ", ": "]
)


@settings(max_examples=250)
@given(
    data=st.binary(max_size=120)
    | st.lists(SYNTAX | st.sampled_from([*KEYS, *SCALARS[:200]]), max_size=25).map(lambda parts: "".join(parts).encode())
)
@example(data=b"")
@example(data=b"\xff\xfe\x00")
@example(data=b"[" * 5000)
@example(data=b"a: " * 2000)
@example(data=b"- " * 3000 + b"x")
@example(data=b"&a [*a, *a]")
@example(data=b"version: " + b"9" * 5000)
@example(data=b"version: 1\nnetwork: [{name: " + b"x" * 100_000 + b"}]")
def test_any_bytes_load_or_say_where_they_cannot(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    loads(data, tmp_path_factory.getbasetemp())
