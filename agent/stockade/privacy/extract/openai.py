"""Bodies of OpenAI's chat, completions, embeddings and moderations, and what servers of the same API add to them."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role, Unreadable
from stockade.privacy.extract.jsonschema import schema
from stockade.privacy.extract.tree import Json, Number
from stockade.privacy.extract.walk import (
    Reader,
    Walk,
    arguments,
    by,
    cache_control,
    data,
    each,
    everything,
    fields,
    identity,
    model_name,
    one_of,
    pseudonym,
    setting,
    text,
    tool_name,
    unreadable,
    with_role,
    word_of_a_role,
)

MEDIA: dict[str, Reader] = {
    **dict.fromkeys(("image_url", "image", "images", "input_image"), unreadable("image")),
    **dict.fromkeys(("input_audio", "audio", "audio_url"), unreadable("audio")),
    **dict.fromkeys(("video", "video_url"), unreadable("video")),
    **dict.fromkeys(("file_id", "file_url"), unreadable("reference")),
    **dict.fromkeys(("prompt_token_ids", "prompt_embeds", "token_ids", "tokens", "image_embeds"), unreadable("tokens")),
}
_file = fields({**MEDIA, "file_data": text(Role.DOCUMENT), "filename": text(Role.DOCUMENT)}, role=Role.DOCUMENT)
part = fields(
    {
        **MEDIA,
        **dict.fromkeys(("url", "uri"), unreadable("reference")),
        "type": one_of("text", "refusal", "file", "thinking", "input_text", "output_text", "summary_text", "reasoning_text"),
        **dict.fromkeys(("text", "refusal", "thinking"), text()),
        "file": _file,
        "cache_control": cache_control,
    }
)


def content(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A text, or parts."""
    (each(part) if isinstance(node, list | dict) else text())(walk, node, at, role)


_function_call = fields({"name": tool_name, "arguments": arguments}, role=Role.TOOL_CALL)
tool_calls = with_role(
    each(
        fields(
            {
                "id": identity,
                "type": one_of("function", "custom"),
                "index": setting,
                "function": _function_call,
                "custom": fields({"name": tool_name, "input": arguments}, role=Role.TOOL_CALL),
            }
        )
    ),
    Role.TOOL_CALL,
)
_function = fields(
    {"name": text(), "description": text(), "parameters": schema, "strict": setting, "type": one_of("function")}, role=Role.TOOL_DEFINITION
)
tools = with_role(
    each(
        fields(
            {
                "type": one_of("function", "custom", "web_search", "web_search_preview", "code_interpreter", "file_search", "mcp"),
                "function": _function,
                **dict.fromkeys(("name", "description"), text()),
                "parameters": schema,
                "strict": setting,
                "vector_store_ids": unreadable("reference"),
                "container": fields({"type": one_of("auto"), "file_ids": unreadable("reference")}),
                "cache_control": cache_control,
            },
            role=Role.TOOL_DEFINITION,
        )
    ),
    Role.TOOL_DEFINITION,
)
_message = fields(
    {
        **MEDIA,
        "role": word_of_a_role,
        "content": content,
        "name": text(),
        **dict.fromkeys(("reasoning_content", "reasoning", "refusal", "thinking", "tool_name"), text()),
        "tool_calls": tool_calls,
        "function_call": _function_call,
        "tool_call_id": identity,
    }
)
ROLES = {
    **dict.fromkeys(("system", "developer"), Role.SYSTEM),
    **dict.fromkeys(("assistant", "model"), Role.ASSISTANT),
    **dict.fromkeys(("tool", "function"), Role.TOOL_RESULT),
}


def turns(message: Reader) -> Reader:
    """Messages, each read in the role that it names; the user's where it names none that is known."""
    return each(by("role", {word: with_role(message, role) for word, role in ROLES.items()}, with_role(message, Role.USER)))


messages = turns(_message)
tool_choice = fields(
    {"type": one_of("function", "auto", "any", "none", "tool", "required"), "name": text(), "function": fields({"name": text()})}
)


def choice(walk: Walk, node: Json, at: At, role: Role) -> None:
    """Which tool is to be called: a word, or the name of one. Naming is no call."""
    reader = one_of("none", "auto", "required", "any") if isinstance(node, str) else tool_choice
    reader(walk, node, at, role)


answer_format = fields(
    {
        "type": one_of("text", "json_object", "json_schema", "grammar"),
        "json_schema": fields({"name": text(), "description": text(), "schema": schema, "strict": setting}, role=Role.TOOL_DEFINITION),
        **dict.fromkeys(("name", "description"), text()),
        "schema": schema,
        "strict": setting,
    },
    role=Role.TOOL_DEFINITION,
)
_SETTINGS = (
    *("temperature", "top_p", "top_k", "min_p", "n", "max_tokens", "max_completion_tokens", "max_output_tokens", "frequency_penalty"),
    *("presence_penalty", "repetition_penalty", "seed", "stream", "logprobs", "top_logprobs", "parallel_tool_calls", "store", "echo"),
    *("best_of", "dimensions", "min_tokens", "ignore_eos", "n_predict", "cache_prompt", "random_seed", "background"),
)
COMMON: dict[str, Reader] = {
    **MEDIA,
    "model": model_name,
    **dict.fromkeys(_SETTINGS, setting),
    "stream_options": fields({"include_usage": setting, "include_obfuscation": setting, "continuous_usage_stats": setting}),
    "stop": each(text(Role.OTHER)),
    "metadata": with_role(data, Role.OTHER),
    **dict.fromkeys(("user", "safety_identifier", "prompt_cache_key"), pseudonym),
    "service_tier": one_of("auto", "default", "flex", "priority", "scale", "standard_only"),
    **dict.fromkeys(("reasoning_effort", "verbosity"), one_of("none", "minimal", "low", "medium", "high", "xhigh")),
    "modalities": each(one_of("text", "audio")),
    "encoding_format": one_of("float", "base64"),
    "response_format": answer_format,
    "guided_json": with_role(schema, Role.TOOL_DEFINITION),
}


def prompt(walk: Walk, node: Json, at: At, role: Role) -> None:
    """Text, or texts. Raises Unreadable for the numbers of tokens."""
    if isinstance(node, Number):
        raise Unreadable("tokens")
    if isinstance(node, list):
        for index, item in enumerate(node):
            prompt(walk, item, (*at, index), role)
    elif isinstance(node, dict):
        part(walk, node, at, role)
    else:
        everything(walk, node, at, role)


def _string(walk: Walk, node: Json, at: At, role: Role) -> None:
    (text() if isinstance(node, str) else prompt)(walk, node, at, role)


asked = with_role(_string, Role.USER)
chat = fields(
    {
        **COMMON,
        "messages": messages,
        **dict.fromkeys(("tools", "functions"), tools),
        **dict.fromkeys(("tool_choice", "function_call"), choice),
        "prediction": with_role(fields({"type": one_of("content"), "content": content}), Role.ASSISTANT),
    }
)
completions = fields({**COMMON, "prompt": asked, "suffix": asked})
embeddings = fields({**COMMON, **dict.fromkeys(("input", "content"), asked)})
moderations = fields({**COMMON, "input": asked})
