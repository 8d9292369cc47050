"""One call to the local model: what is sent there, and the client's answer made of what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from stockade.policy.privacy import Local
from stockade.privacy.extract.call import Api
from stockade.privacy.local import asked, bedrock, completions, embeddings, gemini, heard, responses, told
from stockade.privacy.local.form import Event, LocalFailure, Untranslatable, packed, read

Json = dict[str, Any]

_CHATS: dict[Api, Callable[[Json], Json]] = {
    Api.OPENAI_CHAT: asked.from_openai,
    Api.OPENAI_RESPONSES: responses.from_responses,
    Api.ANTHROPIC_MESSAGES: asked.from_anthropic,
    Api.GEMINI: gemini.from_gemini,
    Api.BEDROCK_CONVERSE: bedrock.from_converse,
    Api.BEDROCK_INVOKE: bedrock.from_invoke,
    Api.OLLAMA_CHAT: asked.from_ollama_chat,
    Api.OLLAMA_GENERATE: asked.from_ollama_generate,
}
_EMBEDDINGS: dict[Api, Callable[[Json], Json]] = {
    Api.OPENAI_EMBEDDINGS: embeddings.from_openai,
    Api.OLLAMA_EMBED: embeddings.from_ollama,
}
_IN_THE_PATH = {
    Api.GEMINI: (gemini.model_of, gemini.streams),
    Api.BEDROCK_CONVERSE: (bedrock.model_of, bedrock.streams),
    Api.BEDROCK_INVOKE: (bedrock.model_of, bedrock.streams),
}
"""Which model, and whether its answer is streamed, where the body does not say it."""
REFUSED: dict[Api, str] = {
    **dict.fromkeys((Api.ANTHROPIC_COUNT_TOKENS, Api.GEMINI_COUNT_TOKENS, Api.TOKENIZE), "a local model counts tokens of its own kind"),
    Api.ANTHROPIC_COMPLETE: "Anthropic's old completion has marks of turns in its text that no local model knows: use messages",
    **dict.fromkeys((Api.COHERE_CHAT, Api.COHERE_EMBED), "Cohere's API is not translated"),
    Api.COHERE_RERANK: "a local model gives no order of documents",
    Api.GEMINI_CODE_ASSIST: "the calls of Gemini's own command line are not translated: give it an API key",
    Api.GEMINI_EMBED: "Gemini's embeddings are not translated",
    Api.OPENAI_MODERATIONS: "a local model is no classifier of moderation",
    Api.OPENAI_FILES: "a file is kept by the provider, and a local model keeps none",
}
"""Why no local model is asked through an API. Every API is here, or is translated."""


class _Hears(Protocol):
    def feed(self, data: bytes) -> Iterator[Event]:
        """data: the answer of the local server, as it comes. Raises LocalFailure."""

    def end(self) -> Iterator[Event]:
        """When there is no more of it. Raises LocalFailure when it was not done."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A POST to the local server. headers: all there are; none of the client's is among them."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Translator:
    """api: of the client. Raises Untranslatable for a call that cannot be said locally, LocalFailure for what is no answer."""

    def __init__(self, api: Api, body: bytes, local: Local, *, path: str = "", room: int | None = None) -> None:
        """body: decoded, as Call was read from it. path: of the request. room: tokens that are left for the answer."""
        self.api, self._local, self._path = api, local, path
        if api in REFUSED:
            raise Untranslatable(REFUSED[api])
        request = read(body)
        try:
            self._asked = _IN_THE_PATH[api][0](path) if api in _IN_THE_PATH else str(request.get("model") or "")
            self.model = local.named(self._asked)
            where, made, self._heard, self._told = self._made(request, room)
        except (AttributeError, TypeError, KeyError) as problem:
            raise Untranslatable("it is not of the schema of its API") from problem
        accept = "text/event-stream" if made.get("stream") and local.api != "ollama" else "application/json"
        head = (("content-type", "application/json"), ("accept", accept), ("accept-encoding", "identity"))
        self.outgoing = Outgoing(where, head, packed({"model": self.model, **made}).encode("utf-8", "replace"))
        self.content_type = self._told.content_type

    def feed(self, data: bytes) -> bytes:
        """A piece of the local server's body; what of the client's answer it completes. The client hears its own model's name."""
        return self._said(self._heard.feed(data))

    def end(self) -> bytes:
        return self._said(self._heard.end())

    def fail(self, why: str) -> bytes:
        """For a client that has heard a part already: that there will be no more, and why."""
        return self._told.failure(why)

    def _said(self, events: Iterator[Event]) -> bytes:
        try:
            return b"".join(piece for event in events for piece in self._told.event(event))
        except (AttributeError, TypeError, KeyError, ValueError) as problem:
            raise LocalFailure("the local server does not speak the API it is said to speak") from problem

    def _made(self, request: Json, room: int | None) -> tuple[str, Json, _Hears, told.Teller]:
        """Where it is sent, what, how the answer is heard, and how it is told."""
        ollama, context, api = self._local.api == "ollama", self._local.context, self.api
        if api in _EMBEDDINGS:
            common = _EMBEDDINGS[api](request)
            listens, tells = embeddings.HeardVectors(len(common["input"])), _vectors(api, self._asked, request)
            if ollama:
                return self._at("/api/embed"), embeddings.to_ollama(common, context), listens, tells
            return self._at("/v1/embeddings"), common, listens, tells
        completion = api is Api.OPENAI_COMPLETIONS
        common = completions.from_completions(request) if completion else _CHATS[api](request)
        if api in _IN_THE_PATH:
            common["stream"] = _IN_THE_PATH[api][1](self._path)
        if room is not None and isinstance(common.get("max_tokens"), int):
            common["max_tokens"] = min(common["max_tokens"], room)  # some servers refuse what would not fit into their context
        stream = bool(common.get("stream"))
        tells = self._teller(stream, bool((common.get("stream_options") or {}).get("include_usage")))
        if ollama:
            made = completions.to_ollama(common, context) if completion else asked.to_ollama(common, context)
            return self._at("/api/generate" if completion else "/api/chat"), made, heard.Ollama(stream), tells
        made = {key: value for key, value in common.items() if key != "stream_options"}
        made |= {"stream_options": {"include_usage": True}} if stream else {}
        return self._at("/v1/completions" if completion else "/v1/chat/completions"), made, heard.OpenAi(stream), tells

    def _at(self, path: str) -> str:
        base = urlsplit(self._local.url).path.rstrip("/")
        return base + (path.removeprefix("/v1") if base.endswith("/v1") else path)

    def _teller(self, stream: bool, usage: bool) -> told.Teller:
        model = self._asked
        match self.api:
            case Api.OPENAI_CHAT:
                return told.OpenAiStream(model, usage) if stream else told.OpenAiWhole(model)
            case Api.OPENAI_COMPLETIONS:
                return completions.CompletionStream(model, usage) if stream else completions.CompletionWhole(model)
            case Api.OPENAI_RESPONSES:
                return responses.ResponsesStream(model) if stream else responses.ResponsesWhole(model)
            case Api.ANTHROPIC_MESSAGES:
                return told.AnthropicStream(model) if stream else told.AnthropicWhole(model)
            case Api.GEMINI:
                return gemini.GeminiAnswer(model, stream, gemini.events(self._path))
            case Api.BEDROCK_CONVERSE:
                return bedrock.ConverseStream() if stream else bedrock.ConverseWhole()
            case Api.BEDROCK_INVOKE:
                return bedrock.InvokeStream(model) if stream else told.AnthropicWhole(model)
        return told.OllamaAnswer(model, stream, generate=self.api is Api.OLLAMA_GENERATE)


def _vectors(api: Api, model: str, request: Json) -> told.Teller:
    if api is Api.OPENAI_EMBEDDINGS:
        return embeddings.OpenAiVectors(model, request.get("encoding_format") == "base64")
    return embeddings.OllamaVectors(model, "prompt" in request)
