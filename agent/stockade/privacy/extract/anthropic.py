"""Bodies of Anthropic's messages, the counting of their tokens, and the old completion."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role, Unreadable
from stockade.privacy.extract.jsonschema import schema
from stockade.privacy.extract.openai import choice, turns
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import (
    Reader,
    Walk,
    by,
    cache_control,
    data,
    each,
    fields,
    form,
    identity,
    model_name,
    one_of,
    opaque,
    pseudonym,
    setting,
    text,
    tool_name,
    unreadable,
    with_role,
    word_of_a_role,
)


def _encoded(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A document in base64. Without its type it is no text to anybody."""
    assert isinstance(node, dict)
    kind = node.get("media_type")

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        if not isinstance(kind, str) or not isinstance(node, str):
            raise Unreadable("binary")
        walk.base64(node, kind, role, at)

    fields({"type": one_of("base64"), "media_type": text(Role.OTHER), "data": read})(walk, node, at, role)


def content(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A text, or blocks. Blocks hold content themselves."""
    (each(_block) if isinstance(node, list | dict) else text())(walk, node, at, role)


_common: dict[str, Reader] = {"cache_control": cache_control, "text": text(), "content": content}
_source = by(
    "type",
    {"base64": _encoded, "url": unreadable("reference"), "file": unreadable("reference")},
    fields(
        {"type": one_of("text", "content"), "media_type": one_of("text/plain"), "data": text(), "content": content}, string=Role.DOCUMENT
    ),
)
_use = with_role(
    fields(
        {
            "type": one_of("tool_use", "server_tool_use", "mcp_tool_use"),
            "id": identity,
            "name": tool_name,
            "server_name": text(),
            "input": data,
            "cache_control": cache_control,
        },
        role=Role.TOOL_CALL,
    ),
    Role.TOOL_CALL,
)
_RESULTS = (
    *("tool_result", "mcp_tool_result", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result"),
    *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
)
_result = with_role(fields({**_common, "type": one_of(*_RESULTS), "tool_use_id": identity, "is_error": setting}), Role.TOOL_RESULT)
_block = by(
    "type",
    {
        "image": unreadable("image"),
        "container_upload": unreadable("reference"),
        "text": fields({**_common, "type": one_of("text")}),
        **dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use"), _use),
        **dict.fromkeys(_RESULTS, _result),
        **dict.fromkeys(
            ("document", "search_result"),
            with_role(
                fields(
                    {
                        **_common,
                        "type": one_of("document", "search_result"),
                        "source": _source,
                        **dict.fromkeys(("title", "context"), text()),
                        "citations": fields({"enabled": setting}),
                    },
                    role=Role.DOCUMENT,
                ),
                Role.DOCUMENT,
            ),
        ),
        "thinking": fields({"type": one_of("thinking"), "thinking": text(), "signature": opaque}),
        "redacted_thinking": fields({"type": one_of("redacted_thinking"), "data": opaque}),
        "web_search_result": fields(
            {"type": one_of("web_search_result"), **dict.fromkeys(("title", "url", "page_age"), text()), "encrypted_content": opaque}
        ),
    },
    fields({**_common, "image": unreadable("image"), **dict.fromkeys(("file_id", "url"), unreadable("reference")), "source": _source}),
)
tools = with_role(
    each(
        fields(
            {
                "type": form(r"custom|(?:bash|text_editor|computer|web_search|web_fetch|code_execution|memory)_202\d[01]\d[0-3]\d"),
                **dict.fromkeys(("name", "description"), text()),
                "input_schema": schema,
                "cache_control": cache_control,
            },
            role=Role.TOOL_DEFINITION,
        )
    ),
    Role.TOOL_DEFINITION,
)
_BETAS = (
    "prompt-caching|computer-use|pdfs|token-counting|token-efficient-tools|output-128k|files-api|mcp-client|dev-full-thinking"
    "|interleaved-thinking|code-execution|extended-cache-ttl|context-1m|context-management|fine-grained-tool-streaming|claude-code|oauth"
    "|structured-outputs|skills|web-fetch|message-batches"
)
_COMMON: dict[str, Reader] = {
    "model": model_name,
    **dict.fromkeys(("max_tokens", "max_tokens_to_sample", "temperature", "top_p", "top_k", "stream"), setting),
    "stop_sequences": each(text(Role.OTHER)),
    "metadata": fields({"user_id": pseudonym}),
    "service_tier": one_of("auto", "standard_only"),
    "anthropic_version": form(r"20\d\d-\d\d-\d\d|(?:bedrock|vertex)-20\d\d-\d\d-\d\d"),
    "anthropic_beta": each(form(rf"(?:{_BETAS})-202\d-[01]\d-[0-3]\d")),
}
messages = fields(
    {
        **_COMMON,
        "system": with_role(content, Role.SYSTEM),
        "messages": turns(fields({"role": word_of_a_role, "content": content})),
        "tools": tools,
        "tool_choice": choice,
        "thinking": fields({"type": one_of("enabled", "disabled", "adaptive"), "budget_tokens": setting}),
    }
)
complete = fields({**_COMMON, "prompt": text(Role.USER)})
