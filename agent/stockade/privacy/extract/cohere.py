"""Bodies of Cohere's chat, embeddings and reranking, and of the counting of tokens by local servers."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role, Unreadable
from stockade.privacy.extract.openai import COMMON, MEDIA, asked, messages
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import Reader, Walk, data, each, fields, model_name, one_of, setting, text, with_role


def _documents(walk: Walk, node: Json, at: At, _role: Role) -> None:
    walk.data(node, Role.DOCUMENT, at)


_KNOWN: dict[str, Reader] = {**COMMON, "stop_sequences": each(text(Role.OTHER)), "documents": _documents}
_message = fields(
    {
        **_KNOWN,
        "message": text(Role.USER),
        "preamble": text(Role.SYSTEM),
        "chat_history": with_role(data, Role.USER),
        "tools": with_role(data, Role.TOOL_DEFINITION),
        "tool_results": with_role(data, Role.TOOL_RESULT),
    }
)
_messages = fields({**_KNOWN, "messages": messages, "tools": with_role(data, Role.TOOL_DEFINITION)})


def converse(walk: Walk, node: Json, at: At, role: Role) -> None:
    """The first version has one message and a history, the second has messages. Raises Unreadable for both."""
    assert isinstance(node, dict)
    if ("message" in node) == ("messages" in node):
        raise Unreadable("unknown_schema")
    (_message if "message" in node else _messages)(walk, node, at, role)


_kind = one_of("search_document", "search_query", "classification", "clustering")
embed = fields(
    {**MEDIA, "model": model_name, "texts": asked, "inputs": asked, "input_type": _kind, "truncate": one_of("NONE", "START", "END")}
)
rerank = fields(
    {
        **MEDIA,
        "model": model_name,
        **dict.fromkeys(("query", "text_1", "text_2"), asked),
        "documents": _documents,
        **dict.fromkeys(("top_n", "return_documents", "max_tokens_per_doc"), setting),
    }
)
tokenize = fields(
    {**MEDIA, "model": model_name, "messages": messages, **dict.fromkeys(("prompt", "content"), asked), "add_special_tokens": setting}
)
