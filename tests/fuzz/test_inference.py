"""Calls of models and their answers, mutated from what real clients and servers sent.

A call is read whole or refused, and what passes was read: no text that a detector knows is in what goes out. An answer comes out the same
however it was cut, and nothing of it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from framework import models
from framework.classifier import InProcess
from fuzz.campaign import mutate
from fuzz.corpus import spoilt
from stockade.policy import Policy
from stockade.policy.privacy import Custom, Privacy
from stockade.privacy.extract import Api, Unreadable, extract, rewrite
from stockade.privacy.extract.answers import AnswerReader
from stockade.privacy.extract.body import SCHEMAS
from stockade.privacy.finding import Finding
from stockade.privacy.redact import Vault
from stockade.proxy.inference import Inference, detection_of
from stockade.proxy.ladder import Head
from stockade.types import Effect

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


MARKS = ("Qzx, Mark; 7", "qzxmark")  # the second has the letters of many a strict form
SEALS = {"signature", "thoughtSignature", "thought_signature", "encrypted_content", "redacted_thinking"}  # any letters are one
HEADS = ("", "data:text/plain,", "data:text/x-note;name=a,", "data:;charset=utf-8,", "data: ", "data:image/svg+xml;charset=utf-8,")


@st.composite
def marked(draw: st.DrawFn) -> tuple[Api, str, bytes]:
    """A seed with a mark at any place of any string or key of it, and perhaps the head of a data URL before that string."""
    call, mark = draw(st.sampled_from(CALLS)), draw(st.sampled_from(MARKS))
    text = json.dumps(call["body"], ensure_ascii=False)
    inside = [each for each in _STRING.finditer(text) if mark == MARKS[0] or not sealed(text, each)]
    string = draw(st.sampled_from(inside))
    said = draw(st.sampled_from(HEADS)) + json.loads(string[0])
    at = draw(st.integers(0, len(said)))
    said = said[:at] + mark + said[at:]
    return Api(call["api"]), mark, (text[: string.start()] + json.dumps(said) + text[string.end() :]).encode()


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def sealed(text: str, string: re.Match[str]) -> bool:
    """Whether a string is a seal, or the kind of thing that `data` of redacted thinking is: base64, which any letters are."""
    name = re.search(r'"(\w+)"\s*:\s*\Z', text[: string.start()])
    return name is not None and (name[1] in SEALS or re.fullmatch(r'"[A-Za-z0-9+/_-]{16,}={0,2}"', string[0]) is not None)


def test_a_mark_anywhere_in_a_body_is_in_a_piece_or_the_body_is_refused() -> None:
    read = 0

    def check(drawn: tuple[Api, str, bytes]) -> None:
        nonlocal read
        api, mark, body = drawn
        with contextlib.suppress(Unreadable):
            pieces = extract(api, [], body).texts
            read += 1
            assert any(mark in each for each in pieces), body

    mutate(marked(), check, examples=600)
    assert read


SECRET = "Qzx Secret; 7"  # no field of a strict form can hold it
HOST = "api.openai.com"
PRIVACY = Privacy(custom=(Custom("secret", SECRET, "credential.key"),))


def planted(call: dict[str, Any]) -> bytes:
    """A seed with the secret in each of its texts."""
    body = json.dumps(call["body"]).encode()
    read = extract(Api(call["api"]), [], body)
    return rewrite(read, body, {number: f"{text} {SECRET}" for number, text in enumerate(read.texts)})


def test_what_passes_was_read() -> None:
    inference = Inference(
        InProcess(),
        None,
        Policy(name="fuzz", rules=()),
        PRIVACY,
        Vault(),
        detection_of(PRIVACY),
        5,  # type: ignore[arg-type]
    )
    connection: Any = SimpleNamespace(caller=SimpleNamespace(host=HOST))
    seeds = [(call["path"], planted(call)) for call in CALLS]
    passed = 0

    def check(drawn: tuple[str, bytes]) -> None:
        nonlocal passed
        path, body = drawn
        verdict = asyncio.run(inference.verdict(connection, Head("POST", path, None, ()), body))
        assert verdict is not None
        if verdict.effect is not Effect.REFUSE:
            passed += 1
            assert SECRET.encode() not in (body if verdict.body is None else verdict.body)

    for seed in seeds:
        check(seed)
    assert not passed
    bodies = spoilt([body for _, body in seeds])
    mutate(st.tuples(st.sampled_from([path for path, _ in seeds]), bodies), check, examples=250)
    harmless = [(call["path"], json.dumps(call["body"]).encode()) for call in CALLS]
    for seed in harmless:
        check(seed)
    assert passed  # or nothing was tried


def test_an_answer_comes_out_the_same_however_it_is_cut_and_broken() -> None:
    vault = Vault()
    finding = Finding(4, 18, "pii.staff", "custom:staff", 1.0)
    mark = vault.redact("Ask Maxim Oduya II now", [finding], HOST)[4:-4]
    text = f"You said: {mark}, then **{mark}** and [STAFF-000000000000] and {mark[:9]}"
    answers = {
        (Api.OPENAI_CHAT, "text/event-stream"): b"".join(models._openai_events(text, "m")),
        (Api.ANTHROPIC_MESSAGES, "text/event-stream"): b"".join(models._anthropic_events(text)),
        (Api.OLLAMA_CHAT, "application/x-ndjson"): b"".join(models._ollama_lines(text)),
        (Api.OPENAI_CHAT, "application/json"): json.dumps(models._openai(text, "m")).encode(),
        (Api.ANTHROPIC_MESSAGES, "application/json"): json.dumps(models._anthropic(text)).encode(),
    }

    def read(api: Api, kind: str, pieces: list[bytes]) -> bytes:
        reader = AnswerReader(api, kind, lambda within: vault.stream(HOST, within_json=within))
        return b"".join([*(reader.feed(piece) for piece in pieces), reader.end()])

    def check(drawn: tuple[tuple[tuple[Api, str], bytes], list[int]]) -> None:
        ((api, kind), data), cuts = drawn
        places = sorted({cut % (len(data) + 1) for cut in cuts})
        pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
        assert read(api, kind, pieces) == read(api, kind, [data])

    for (api, kind), data in answers.items():
        put_back = AnswerReader(api, kind, lambda _within: Vault().stream(HOST))
        put_back.feed(read(api, kind, [data]))
        put_back.end()
        assert put_back.text == text.replace(mark, "Maxim Oduya II")
        check((((api, kind), data), list(range(0, len(data), 3))))
    each = st.sampled_from(sorted(answers)).flatmap(lambda key: st.tuples(st.just(key), spoilt([answers[key]])))
    mutate(st.tuples(each, st.lists(st.integers(0, 5000), max_size=12)), check, examples=300)


def keys(node: object) -> set[str]:
    if isinstance(node, dict):
        return {*node, *(key for value in node.values() for key in keys(value))}
    return {key for value in node for key in keys(value)} if isinstance(node, list) else set()
