"""What every API shares: content encodings within bounds, strict JSON, texts exchanged at their places, and a walk that loses none."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.privacy.extract import Role, Unreadable
from stockade.privacy.extract.decode import LARGEST, content_type, decoded, encodings
from stockade.privacy.extract.decode import zstd as zstandard
from stockade.privacy.extract.tree import DEPTH, Step, dump, exchange, parse, parse_bytes
from stockade.privacy.extract.walk import Walk, everything, model_name

ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": zstandard.compress,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)


def why(work: Any) -> str:
    with pytest.raises(Unreadable) as caught:
        work()
    return caught.value.why


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoding_is_undone_within_bounds(name: str) -> None:
    encode = ENCODERS[name]
    whole = encode(b"hello" * 1000)
    assert decoded(whole, [name]) == b"hello" * 1000
    assert decoded(encode(whole), [name, name]) == b"hello" * 1000
    for spoilt in (whole + b"x", whole[:-1], b"", b"hello"):
        assert why(lambda spoilt=spoilt: decoded(spoilt, [name])) == "encoding"
    assert why(lambda: decoded(encode(bytes(LARGEST + 1)), [name])) == "too_large"


def test_deflate_without_its_head() -> None:
    packer = zlib.compressobj(wbits=-15)
    assert decoded(packer.compress(b"hello") + packer.flush(), ["deflate"]) == b"hello"


def test_what_the_head_says() -> None:
    assert encodings([("Content-Encoding", "gzip, identity"), ("content-encoding", "br")]) == ("gzip", "br")
    assert content_type([("Content-Type", 'application/json; charset="UTF-8"')]) == ("application/json", {"charset": "UTF-8"})
    for value in ("compress", "gzip, gzip, gzip"):
        assert why(lambda value=value: encodings([("content-encoding", value)])) == "encoding"
    assert why(lambda: content_type([("content-type", "application/json; charset=utf-7")])) == "encoding"
    assert why(lambda: content_type([("content-type", "text/plain"), ("content-type", "application/json")])) == "encoding"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": "\n"}', "not_json"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
        ('{"a": "b"}'.encode("utf-16"), "encoding"),
        ('{"a": "b"}'.encode("utf-16-le"), "encoding"),
        ('{"a": "b"}'.encode("utf-32"), "encoding"),
        (b'{"a": "\xff"}', "encoding"),
        (b'{"a": "\\ud800"}', "encoding"),
        (b'{"\\udfff": 1}', "encoding"),
        (b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2), "too_deep"),
        (b"[" * 1_000_000, "too_deep"),
    ],
)
def test_what_two_readers_may_read_differently_is_not_read(body: bytes, expected: str) -> None:
    assert why(lambda: parse_bytes(body)) == expected


def test_a_byte_order_mark_and_a_pair_of_surrogates_are_read() -> None:
    assert parse_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_numbers_keep_their_spelling() -> None:
    body = '{"a":123456789012345678901234567890,"b":1.10,"c":1E+400,"d":-0}'
    assert dump(parse(body)) == body


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_what_is_dumped_is_the_same_json(value: Any) -> None:
    assert json.loads(dump(parse(json.dumps(value)))) == value


def test_texts_are_exchanged_inside_strings_too() -> None:
    body = parse(r'{"a": "{\"name\": \"J\\u006fhn\", \"n\": 10}", "b": "aGVsbG8=", "c": "data:text/plain;base64,aGVsbG8=", "d": [1, "x"]}')
    made = exchange(
        body,
        {("a", Step.JSON, "name"): "[P]", ("b", Step.BASE64): "bye", ("c", Step.DATA_URL): "bye", ("d", 1): "y", (3,): "key"},
    )
    assert json.loads(dump(made)) == {"a": '{"name":"[P]","n":10}', "b": "Ynll", "c": "data:text/plain;base64,Ynll", "key": [1, "y"]}
    assert why(lambda: exchange(parse('{"a": 1, "b": 2}'), {(0,): "x", (1,): "x"})) == "duplicate_key"


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, dict):
        return [each for key, item in value.items() for each in strings(key) + strings(item)]
    return [each for item in value for each in strings(item)] if isinstance(value, list) else []


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_the_walk_finds_every_string_and_key(value: Any) -> None:
    """Of texts that are no JSON, base64 or data URL themselves, which are read on."""
    walk, body = Walk(), parse(json.dumps(value))
    everything(walk, body, (), Role.OTHER)
    found = [piece.text for piece in walk.pieces]
    assert all(each in found for each in strings(value) if "\\" not in each and not each.lower().startswith("data:"))
    marked = {piece.at: f"<{index}>" for index, piece in enumerate(walk.pieces)}
    again = Walk()
    everything(again, exchange(body, marked), (), Role.OTHER)
    assert [piece.text for piece in again.pieces] == list(marked.values())


def test_what_is_no_text_is_told() -> None:
    for body, expected in (([*range(100)], "tokens"), ("data:image/png;base64,AAAA", "image"), ("/9j/" + "A" * 400, "binary")):
        assert why(lambda body=body: everything(Walk(), parse(json.dumps(body)), (), Role.OTHER)) == expected


def test_a_structural_field_that_is_not_of_its_form_is_a_piece() -> None:
    for value, pieces in (("claude-sonnet-4-20250514", 0), ("meta/llama-3.1:70b", 0), ("patient 4711", 1), ("123-45-6789", 1), (["x"], 1)):
        walk = Walk()
        model_name(walk, value, ("model",), Role.OTHER)
        assert len(walk.pieces) == pieces
