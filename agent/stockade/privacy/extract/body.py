"""The body of a call: its texts by the schema of its API, and other texts in their places. What has no schema here is not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from stockade.privacy.extract import anthropic, bedrock, cohere, gemini, ollama, openai
from stockade.privacy.extract.call import Api, At, Call, Role, Unreadable
from stockade.privacy.extract.decode import content_type, decoded, encodings
from stockade.privacy.extract.responses import responses
from stockade.privacy.extract.tree import Json, dump, exchange, parse_bytes
from stockade.privacy.extract.walk import Reader, Walk

SCHEMAS: dict[Api, Reader] = {
    Api.OPENAI_CHAT: openai.chat,
    Api.OPENAI_COMPLETIONS: openai.completions,
    Api.OPENAI_RESPONSES: responses,
    Api.OPENAI_EMBEDDINGS: openai.embeddings,
    Api.OPENAI_MODERATIONS: openai.moderations,
    Api.ANTHROPIC_MESSAGES: anthropic.messages,
    Api.ANTHROPIC_COUNT_TOKENS: anthropic.messages,
    Api.ANTHROPIC_COMPLETE: anthropic.complete,
    Api.GEMINI: gemini.generate,
    Api.GEMINI_COUNT_TOKENS: gemini.count_tokens,
    Api.GEMINI_EMBED: gemini.embed,
    Api.GEMINI_CODE_ASSIST: gemini.code_assist,
    Api.BEDROCK_INVOKE: bedrock.invoke,
    Api.BEDROCK_CONVERSE: bedrock.converse,
    Api.OLLAMA_CHAT: ollama.chat,
    Api.OLLAMA_GENERATE: ollama.generate,
    Api.OLLAMA_EMBED: ollama.embed,
    Api.COHERE_CHAT: cohere.converse,
    Api.COHERE_EMBED: cohere.embed,
    Api.COHERE_RERANK: cohere.rerank,
    Api.TOKENIZE: cohere.tokenize,
}
_STREAMS_UNLESS_TOLD = frozenset({Api.OLLAMA_CHAT, Api.OLLAMA_GENERATE})
_OF_PATH = re.compile(r"/(?:model|models|tunedModels|endpoints|deployments)/(?P<model>[^?]+?)(?P<verb>[:/][A-Za-z\-/]+)?(?:\?.*)?\Z", re.I)


def extract(api: Api, headers: Sequence[tuple[str, str]], body: bytes, path: str = "") -> Call:
    """Every text of the body. path: some APIs name the model and the stream there. Raises Unreadable."""
    if content_type(headers)[0].startswith("multipart/"):
        raise Unreadable("multipart")
    if (schema := SCHEMAS.get(api)) is None:
        raise Unreadable("unknown_schema")
    applied = encodings(headers)
    root = parse_bytes(decoded(body, applied))
    if not isinstance(root, dict):
        raise Unreadable("unknown_schema")
    walk = Walk()
    schema(walk, root, (), Role.OTHER)
    of_path = _OF_PATH.search(path)
    named = root.get("model")
    model = named if isinstance(named, str) else unquote(of_path["model"]) if of_path else None
    return Call(api, model, _streams(api, root, path), tuple(walk.pieces), tuple(walk.tools), applied)


def rewrite(call: Call, body: bytes, texts: Mapping[int, str]) -> bytes:
    """The body as plain JSON, with these texts (by the number of their piece) in it. Numbers keep their spelling. Raises Unreadable.

    A piece that was a number becomes a string.
    """
    places: dict[At, str] = {call.pieces[number].at: text for number, text in texts.items() if text != call.pieces[number].text}
    try:
        return dump(exchange(parse_bytes(decoded(body, call.encodings)), places)).encode()
    except KeyError:
        raise Unreadable("unknown_schema") from None  # not the body that the call was read from


def _streams(api: Api, root: dict[str, Json], path: str) -> bool:
    stream = root.get("stream")
    if api in _STREAMS_UNLESS_TOLD:
        return stream is not False
    return stream is True or bool(re.search(r":stream[A-Za-z]+|(?:converse-stream|with-response-stream)/?(?:\?|\Z)", path, re.I))
