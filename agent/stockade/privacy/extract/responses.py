"""The body of OpenAI's responses: items instead of messages."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role
from stockade.privacy.extract.openai import COMMON, MEDIA, ROLES, answer_format, choice, content, tools
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import (
    Walk,
    arguments,
    by,
    each,
    fields,
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

_status = one_of("in_progress", "completed", "incomplete")
_message = fields({**MEDIA, "type": one_of("message"), "role": word_of_a_role, "content": content, "id": identity, "status": _status})
_called = {"id": identity, "call_id": identity, "status": _status}
_call = with_role(
    fields(
        {
            **MEDIA,
            **_called,
            "type": one_of("function_call", "custom_tool_call", "mcp_call"),
            "name": tool_name,
            "arguments": arguments,
            "input": arguments,
            "output": content,
        },
        role=Role.TOOL_CALL,
    ),
    Role.TOOL_CALL,
)
_output = with_role(
    fields(
        {**MEDIA, **_called, "type": one_of("function_call_output", "custom_tool_call_output"), "output": content}, role=Role.TOOL_RESULT
    ),
    Role.TOOL_RESULT,
)
_reasoning = with_role(
    fields(
        {
            "type": one_of("reasoning"),
            "id": identity,
            "status": _status,
            **dict.fromkeys(("summary", "content"), content),
            "encrypted_content": opaque,
        }
    ),
    Role.ASSISTANT,
)
_turn = by("role", {word: with_role(_message, role) for word, role in ROLES.items()}, with_role(_message, Role.USER))


def _screen(walk: Walk, node: Json, at: At, role: Role) -> None:
    """What a computer shows is an image, whatever it is called."""
    MEDIA["image"](walk, node, at, role)


_item = by(
    "type",
    {
        **dict.fromkeys(("function_call", "custom_tool_call", "mcp_call"), _call),
        **dict.fromkeys(("function_call_output", "custom_tool_call_output"), _output),
        "reasoning": _reasoning,
        **dict.fromkeys(("computer_call_output", "image_generation_call"), _screen),
        "item_reference": fields({"type": one_of("item_reference"), "id": identity}),
    },
    _turn,
)


def _input(walk: Walk, node: Json, at: At, _role: Role) -> None:
    (each(_item) if isinstance(node, list | dict) else text())(walk, node, at, Role.USER)


_INCLUDED = (
    *("reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url", "file_search_call.results"),
    *("code_interpreter_call.outputs", "computer_call_output.output.image_url", "web_search_call.action.sources"),
)
responses = fields(
    {
        **COMMON,
        "input": _input,
        "instructions": with_role(content, Role.SYSTEM),
        "tools": tools,
        "tool_choice": choice,
        "text": fields({"format": answer_format, "verbosity": one_of("low", "medium", "high")}),
        "reasoning": fields(
            {
                "effort": one_of("none", "minimal", "low", "medium", "high", "xhigh"),
                "summary": one_of("auto", "concise", "detailed"),
            }
        ),
        "prompt": unreadable("reference"),
        "previous_response_id": identity,
        "include": each(one_of(*_INCLUDED)),
        "truncation": one_of("auto", "disabled"),
        "max_tool_calls": setting,
    }
)
