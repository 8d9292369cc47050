"""Bodies of Gemini: generation, counting, embedding. Its servers take each name in either spelling, with a hump or an underscore."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stockade.privacy.extract.call import At, Role, Unreadable
from stockade.privacy.extract.jsonschema import schema
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import (
    Reader,
    Walk,
    by,
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
)


def _either(known: Mapping[str, Reader]) -> dict[str, Reader]:
    return {**known, **{re.sub("[A-Z]", lambda hump: "_" + hump[0].lower(), name): reader for name, reader in known.items()}}


def _inline(walk: Walk, node: Json, at: At, role: Role) -> None:
    kind = (node.get("mimeType", node.get("mime_type"))) if isinstance(node, dict) else None

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        if not isinstance(kind, str) or not isinstance(node, str):
            raise Unreadable("binary")
        walk.base64(node, kind, role, at)

    fields(_either({"mimeType": text(Role.OTHER), "displayName": text(), "data": read}))(walk, node, at, role)


_call = with_role(fields({"name": tool_name, "args": data, "id": identity}, role=Role.TOOL_CALL), Role.TOOL_CALL)
_response = with_role(
    fields(
        {
            "name": text(),
            "response": data,
            "id": identity,
            "parts": each(fields(_either({"inlineData": _inline, "fileData": unreadable("reference")}))),
        },
        role=Role.TOOL_RESULT,
    ),
    Role.TOOL_RESULT,
)
_part = fields(
    _either(
        {
            "text": text(),
            "thought": setting,
            "thoughtSignature": opaque,
            "inlineData": with_role(_inline, Role.DOCUMENT),
            "fileData": unreadable("reference"),
            "functionCall": _call,
            "functionResponse": _response,
            "executableCode": fields({"language": one_of("PYTHON"), "code": text(Role.TOOL_CALL)}),
            "codeExecutionResult": fields(
                {"outcome": one_of("OUTCOME_OK", "OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED"), "output": text(Role.TOOL_RESULT)}
            ),
        }
    )
)
_content = fields({"role": one_of("user", "model", "function", "system"), "parts": each(_part)})


def _contents(walk: Walk, node: Json, at: At, _role: Role) -> None:
    _turns(walk, node, at, Role.USER)


_turns = each(
    by(
        "role",
        {
            "model": with_role(_content, Role.ASSISTANT),
            "function": with_role(_content, Role.TOOL_RESULT),
            "system": with_role(_content, Role.SYSTEM),
        },
        with_role(_content, Role.USER),
    )
)
_declaration = fields(
    _either(
        {
            **dict.fromkeys(("name", "description"), text()),
            **dict.fromkeys(("parameters", "parametersJsonSchema", "response", "responseJsonSchema"), schema),
        }
    ),
    role=Role.TOOL_DEFINITION,
)
_tools = with_role(each(fields(_either({"functionDeclarations": each(_declaration)}), role=Role.TOOL_DEFINITION)), Role.TOOL_DEFINITION)
_HARMS = "HARM_CATEGORY_(?:HARASSMENT|HATE_SPEECH|SEXUALLY_EXPLICIT|DANGEROUS_CONTENT|CIVIC_INTEGRITY|UNSPECIFIED)"
_THRESHOLDS = "BLOCK_(?:NONE|ONLY_HIGH|MEDIUM_AND_ABOVE|LOW_AND_ABOVE)|OFF|HARM_BLOCK_THRESHOLD_UNSPECIFIED"
_TASKS = (
    *("RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING", "QUESTION_ANSWERING"),
    *("FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"),
)
_NUMBERS = (
    *("temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "seed", "presencePenalty", "frequencyPenalty", "logprobs"),
    *("responseLogprobs",),
)
_generation = fields(
    _either(
        {
            **dict.fromkeys(_NUMBERS, setting),
            "stopSequences": each(text(Role.OTHER)),
            "responseMimeType": one_of("text/plain", "application/json", "text/x.enum"),
            **dict.fromkeys(("responseSchema", "responseJsonSchema"), with_role(schema, Role.TOOL_DEFINITION)),
            "responseModalities": each(one_of("TEXT", "IMAGE", "AUDIO")),
            "thinkingConfig": fields(_either({"includeThoughts": setting, "thinkingBudget": setting})),
        }
    )
)
_KNOWN = _either(
    {
        "model": model_name,
        "contents": _contents,
        "systemInstruction": with_role(fields({"role": one_of("user", "system"), "parts": each(_part)}), Role.SYSTEM),
        "tools": _tools,
        "toolConfig": fields(
            _either(
                {"functionCallingConfig": fields(_either({"mode": one_of("AUTO", "ANY", "NONE"), "allowedFunctionNames": each(text())}))}
            )
        ),
        "safetySettings": each(fields({"category": form(_HARMS), "threshold": form(_THRESHOLDS)})),
        "generationConfig": _generation,
        "cachedContent": unreadable("reference"),
        "sessionId": pseudonym,
    }
)
generate = fields(_KNOWN)
# Also what is said there beside calls of the model: who asks, for which project, with which tools.
code_assist = fields({**_KNOWN, "request": generate, "user_prompt_id": pseudonym})
count_tokens = fields({**_KNOWN, **_either({"generateContentRequest": generate})})
_embedding: dict[str, Reader] = {
    "model": model_name,
    "content": with_role(_content, Role.USER),
    "title": text(Role.DOCUMENT),
    "outputDimensionality": setting,
    "taskType": one_of(*_TASKS),
}
embed = fields({**_either(_embedding), "requests": each(fields(_either(_embedding)))})
