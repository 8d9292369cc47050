"""One call to the local model: what is sent there, and the client's answer made of what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from stockade.policy.privacy import Local
from stockade.privacy.extract.call import Api
from stockade.privacy.local import asked, heard, told
from stockade.privacy.local.form import Untranslatable, packed, read

_FROM = {
    Api.OPENAI_CHAT: asked.from_openai,
    Api.ANTHROPIC_MESSAGES: asked.from_anthropic,
    Api.OLLAMA_CHAT: asked.from_ollama_chat,
    Api.OLLAMA_GENERATE: asked.from_ollama_generate,
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A POST to the local server. headers: all there are; none of the client's is among them."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Translator:
    """api: of the client. Raises Untranslatable for a call that cannot be said locally, LocalFailure for what is no answer."""

    def __init__(self, api: Api, body: bytes, local: Local, *, api_key: str = "") -> None:
        """body: decoded, as Call was read from it. api_key: the local server's own."""
        if api not in _FROM:
            raise Untranslatable(f"no local model is asked through {api.value}")
        request = read(body)
        model = request.get("model") or ""
        chat = _FROM[api](request)
        stream = bool(chat.get("stream"))
        name = local.named(model)
        base = urlsplit(local.url).path.rstrip("/")
        if local.api == "ollama":
            path, made = f"{base}/api/chat", {"model": name, **asked.to_ollama(chat, local.context)}
            self._heard: heard.OpenAi | heard.Ollama = heard.Ollama(stream)
        else:
            options = {"stream_options": {"include_usage": True}} if stream else {}
            path = f"{base}/chat/completions" if base.endswith("/v1") else f"{base}/v1/chat/completions"
            made = {"model": name, **{key: value for key, value in chat.items() if key != "stream_options"}, **options}
            self._heard = heard.OpenAi(stream)
        key = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        accept = "text/event-stream" if stream and local.api != "ollama" else "application/json"
        head = (("content-type", "application/json"), ("accept", accept), ("accept-encoding", "identity"))
        self.outgoing = Outgoing(path, (*head, *key), packed(made).encode("utf-8", "replace"))
        self._told = _teller(api, model, stream, bool((chat.get("stream_options") or {}).get("include_usage")))
        self.api, self.stream, self.model = api, stream, name
        self.content_type = self._told.content_type

    def feed(self, data: bytes) -> bytes:
        """A piece of the local server's body; what of the client's answer it completes. The client hears its own model's name."""
        return b"".join(piece for event in self._heard.feed(data) for piece in self._told.event(event))

    def end(self) -> bytes:
        return b"".join(piece for event in self._heard.end() for piece in self._told.event(event))


def _teller(api: Api, model: str, stream: bool, usage: bool) -> told.Teller:
    match api:
        case Api.OPENAI_CHAT:
            return told.OpenAiStream(model, usage) if stream else told.OpenAiWhole(model)
        case Api.ANTHROPIC_MESSAGES:
            return told.AnthropicStream(model) if stream else told.AnthropicWhole(model)
    return told.OllamaAnswer(model, stream, generate=api is Api.OLLAMA_GENERATE)
