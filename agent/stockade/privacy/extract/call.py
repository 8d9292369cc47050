"""What an inference call is to the router: its API, its texts with their places, and why there may be none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

type At = tuple[str | int, ...]


class Api(StrEnum):
    """A body that is known. The answer to it is of the same name."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_RESPONSES = "openai_responses"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    OPENAI_MODERATIONS = "openai_moderations"
    OPENAI_FILES = "openai_files"  # multipart/form-data; Anthropic's files too
    ANTHROPIC_MESSAGES = "anthropic_messages"
    ANTHROPIC_COUNT_TOKENS = "anthropic_count_tokens"
    ANTHROPIC_COMPLETE = "anthropic_complete"
    GEMINI = "gemini"
    GEMINI_COUNT_TOKENS = "gemini_count_tokens"
    GEMINI_EMBED = "gemini_embed"
    GEMINI_CODE_ASSIST = "gemini_code_assist"  # what Google's own command line asks: Gemini's body inside another
    BEDROCK_INVOKE = "bedrock_invoke"
    BEDROCK_CONVERSE = "bedrock_converse"
    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"
    OLLAMA_EMBED = "ollama_embed"
    COHERE_CHAT = "cohere_chat"
    COHERE_EMBED = "cohere_embed"
    COHERE_RERANK = "cohere_rerank"
    TOKENIZE = "tokenize"  # vLLM, llama.cpp: text goes there, numbers come back


class Role(StrEnum):
    """Whose text it is. OTHER: a text where the schema has none; it is classified all the same."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL_DEFINITION = "tool_definition"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    DOCUMENT = "document"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Piece:
    """A text and where it stands. at: keys and indices from the root of the body; below a string, how it is read on (tree.Step)."""

    text: str
    role: Role
    at: At


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was read whole: every text in it is a piece, or has the strict form of a field that carries none.

    model: as the body or, failing that, the path names it. tools: names of the tool calls in it, in order, each once.
    encodings: what `rewrite` has to undo to find the places again.
    """

    api: Api
    model: str | None
    stream: bool
    pieces: tuple[Piece, ...]
    tools: tuple[str, ...]
    encodings: tuple[str, ...] = ()

    @property
    def texts(self) -> Sequence[str]:
        return [piece.text for piece in self.pieces]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A request to an LLM endpoint whose body has no known schema. why: a short stable code, as in Unreadable.

    bodyless: nothing but its head would leave, so `leaves_nothing` may say so once head and body are there.
    """

    why: str = "unknown_body"
    bodyless: bool = False


class Unreadable(ValueError):
    """A body that could carry text which nobody read. why: one of WHY."""

    WHY = (
        "not_json",
        "unknown_schema",
        "unknown_body",
        "duplicate_key",
        "encoding",  # a charset, a content encoding or octets that two readers may read differently
        "too_large",
        "too_deep",
        "multipart",
        "base64",
        "image",
        "audio",
        "video",
        "pdf",
        "binary",
        "reference",  # a file or a page that the provider fetches itself
        "tokens",  # text as token numbers or as an embedding
    )

    def __init__(self, why: str) -> None:
        assert why in self.WHY
        super().__init__(why)
        self.why = why
