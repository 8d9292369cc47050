"""Bodies of Bedrock: the one form of converse, and each maker's own in invoke."""

from __future__ import annotations

from stockade.privacy.extract import anthropic, openai
from stockade.privacy.extract.call import At, Role, Unreadable
from stockade.privacy.extract.jsonschema import schema
from stockade.privacy.extract.openai import turns
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import (
    Reader,
    Walk,
    data,
    each,
    fields,
    form,
    identity,
    one_of,
    opaque,
    setting,
    text,
    tool_name,
    unreadable,
    with_role,
    word_of_a_role,
)

_TEXTS = {"txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html", "pdf": "application/pdf"}


def _document(walk: Walk, node: Json, at: At, _role: Role) -> None:
    form_of = node.get("format") if isinstance(node, dict) else None
    kind = _TEXTS.get(form_of, "application/octet-stream") if isinstance(form_of, str) else "text/plain"

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        if not isinstance(node, str):
            raise Unreadable("binary")
        walk.base64(node, kind, role, at)

    source = fields(
        {"bytes": read, "text": text(), "content": each(fields({"text": text()})), "s3Location": unreadable("reference")},
        role=Role.DOCUMENT,
    )
    known = {"format": one_of(*_TEXTS), "name": text(), "context": text(), "source": source, "citations": fields({"enabled": setting})}
    fields(known, role=Role.DOCUMENT)(walk, node, at, Role.DOCUMENT)


_cache_point = fields({"type": one_of("default"), "ttl": form(r"\d{1,3}[mh]")})
_media: dict[str, Reader] = {"text": text(), "image": unreadable("image"), "video": unreadable("video"), "audio": unreadable("audio")}
_use = with_role(
    fields({"toolUseId": identity, "name": tool_name, "input": data, "type": one_of("server_tool_use")}, role=Role.TOOL_CALL),
    Role.TOOL_CALL,
)
_result = with_role(
    fields(
        {
            "toolUseId": identity,
            "content": each(fields({**_media, "json": data, "document": _document})),
            "status": one_of("success", "error"),
        },
        role=Role.TOOL_RESULT,
    ),
    Role.TOOL_RESULT,
)
_block = fields(
    {
        **_media,
        "document": _document,
        "toolUse": _use,
        "toolResult": _result,
        "guardContent": fields({**_media, "text": fields({"text": text()})}),
        "reasoningContent": fields({"reasoningText": fields({"text": text(), "signature": opaque}), "redactedContent": opaque}),
        "cachePoint": _cache_point,
    }
)
_tool = fields(
    {
        "toolSpec": fields(
            {**dict.fromkeys(("name", "description"), text()), "inputSchema": fields({"json": schema}), "strict": setting},
            role=Role.TOOL_DEFINITION,
        ),
        "cachePoint": _cache_point,
    },
    role=Role.TOOL_DEFINITION,
)
_inference = fields(
    {**dict.fromkeys(("maxTokens", "max_new_tokens", "temperature", "topP", "topK"), setting), "stopSequences": each(text(Role.OTHER))}
)
converse = fields(
    {
        "schemaVersion": one_of("messages-v1"),
        "system": with_role(each(_block), Role.SYSTEM),
        "messages": turns(fields({"role": word_of_a_role, "content": each(_block)})),
        "toolConfig": with_role(
            fields({"tools": each(_tool), "toolChoice": fields({"auto": setting, "any": setting})}), Role.TOOL_DEFINITION
        ),
        "inferenceConfig": _inference,
        **dict.fromkeys(("additionalModelRequestFields", "requestMetadata", "promptVariables"), with_role(data, Role.OTHER)),
    }
)
_titan = fields(
    {
        "inputText": text(Role.USER),
        "inputImage": unreadable("image"),
        "textGenerationConfig": fields(
            {**dict.fromkeys(("maxTokenCount", "temperature", "topP"), setting), "stopSequences": each(text(Role.OTHER))}
        ),
        **dict.fromkeys(("dimensions", "normalize"), setting),
    }
)
_prompt = fields(
    {
        **openai.MEDIA,
        "prompt": text(Role.USER),
        **dict.fromkeys(("max_gen_len", "max_tokens", "max_tokens_to_sample", "temperature", "top_p", "top_k"), setting),
        **dict.fromkeys(("stop", "stop_sequences"), each(text(Role.OTHER))),
    }
)


def invoke(walk: Walk, node: Json, at: At, role: Role) -> None:
    """By what the body says of itself. Raises Unreadable for a maker that is not known."""
    assert isinstance(node, dict)
    if "anthropic_version" in node and "messages" in node:
        reader = anthropic.messages
    elif "schemaVersion" in node or "inferenceConfig" in node:
        reader = converse
    elif "inputText" in node:
        reader = _titan
    elif "prompt" in node:
        reader = _prompt
    elif "messages" in node:
        reader = openai.chat
    else:
        raise Unreadable("unknown_schema")
    reader(walk, node, at, role)
