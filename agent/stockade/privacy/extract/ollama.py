"""Bodies of Ollama's own API. Its answers stream unless they are told not to."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role
from stockade.privacy.extract.jsonschema import schema
from stockade.privacy.extract.openai import asked, messages, tools
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import Reader, Walk, each, fields, model_name, one_of, seconds, setting, text, unreadable

_SETTINGS = (
    *("num_ctx", "num_predict", "num_batch", "num_gpu", "num_thread", "num_keep", "main_gpu", "seed", "top_k", "top_p", "min_p"),
    *("typical_p", "repeat_last_n", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty", "mirostat"),
    *("mirostat_eta", "mirostat_tau", "penalize_newline", "use_mmap", "use_mlock", "numa", "low_vram", "vocab_only", "tfs_z"),
)


def _form(walk: Walk, node: Json, at: At, _role: Role) -> None:
    (schema if isinstance(node, dict) else one_of("json", ""))(walk, node, at, Role.TOOL_DEFINITION)


def _pause(walk: Walk, node: Json, at: At, role: Role) -> None:
    (seconds if isinstance(node, str) else setting)(walk, node, at, role)


_COMMON: dict[str, Reader] = {
    "model": model_name,
    **dict.fromkeys(("stream", "raw", "truncate", "dimensions", "logprobs", "top_logprobs"), setting),
    "options": fields({**dict.fromkeys(_SETTINGS, setting), "stop": each(text(Role.OTHER))}),
    "keep_alive": _pause,
    "format": _form,
    "think": one_of("low", "medium", "high"),
    "images": unreadable("image"),
    "context": unreadable("tokens"),
}
chat = fields({**_COMMON, "messages": messages, "tools": tools})
generate = fields(
    {**_COMMON, **dict.fromkeys(("prompt", "suffix"), text(Role.USER)), **dict.fromkeys(("system", "template"), text(Role.SYSTEM))}
)
embed = fields({**_COMMON, **dict.fromkeys(("input", "prompt"), asked)})
