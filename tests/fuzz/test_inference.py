"""Bodies of inference calls, mutated from what real clients sent: they are read whole or refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from hypothesis import strategies as st

from fuzz.campaign import mutate
from fuzz.corpus import spoilt
from stockade.privacy.extract import Api, Unreadable, extract, rewrite
from stockade.privacy.extract.body import SCHEMAS

CALLS = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[1] / "golden" / "inference").glob("*.json"))]
BODIES = [json.dumps(call["body"], ensure_ascii=False).encode() for call in CALLS]
APIS = list(SCHEMAS)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["data:text/plain,x", '{"a": "\\u0041"}', "eHh4eA=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_each_seed_is_read() -> None:
    for call, body in zip(CALLS, BODIES, strict=True):
        assert extract(Api(call["api"]), [], body).pieces


def test_a_spoilt_body_is_read_or_refused() -> None:
    def check(drawn: tuple[bytes, Api]) -> None:
        body, api = drawn
        with contextlib.suppress(Unreadable):
            call = extract(api, [], body)
            made = rewrite(call, body, {number: f"<{number}>" for number in range(len(call.pieces))})
            json.loads(made)

    mutate(st.tuples(spoilt(BODIES), st.sampled_from(APIS)), check)


def test_any_value_in_a_field_that_is_known_is_read_or_refused() -> None:
    names = sorted({key for call in CALLS for key in keys(call["body"])})

    def check(drawn: tuple[Api, object]) -> None:
        api, body = drawn
        data = json.dumps(body).encode()
        with contextlib.suppress(Unreadable):
            call = extract(api, [], data)
            assert json.loads(rewrite(call, data, dict(enumerate(call.texts)))) == json.loads(data)

    known = st.sampled_from(names)
    bodies = st.recursive(VALUES, lambda inner: st.dictionaries(known, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12)
    mutate(st.tuples(st.sampled_from(APIS), st.dictionaries(known, bodies, max_size=5)), check)


def keys(node: object) -> set[str]:
    if isinstance(node, dict):
        return {*node, *(key for value in node.values() for key in keys(value))}
    return {key for value in node for key in keys(value)} if isinstance(node, list) else set()
