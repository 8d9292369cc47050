"""A language model of half a megabyte, in the file format of llama.cpp (GGUF 3): letters by chance, and a tool call where there are tools.

It is one block of a llama with weights made here. What it says next hangs on its last token alone, so an answer is the same each time; and
one head looks at the whole prompt for the mark that the template sets before tools, which makes the opening of a tool call likely. What a
call then says is held to the tool's schema by the server's own grammar.
"""

from __future__ import annotations

import array
import random
import string
import struct
from collections.abc import Iterator
from pathlib import Path

WIDTH, INNER, CONTEXT = 64, 32, 4096
TEXT = string.ascii_letters + string.digits + " .,:;!?{}[]()<>\"'\n_-/\\|=+*&%$#@^~`"
MARK, CALL = "<tools>", "<tool_call>"
_NORMAL, _UNKNOWN, _CONTROL, _DEFINED, _OCTET = 1, 2, 3, 4, 6  # llama_token_type
_LETTERS, _TOOLS, _CLOSED = 0, 1, 2  # what dimensions mean: always high; high where the prompt has MARK; high where it may be over

TEMPLATE = """\
{%- set last = messages[-1].role %}
{%- if tools %}<|system|>
{{ "<tools>" if last != "tool" else "[tools]" }}
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|result|>: {{ message.content }}
{% else %}<|{{ message.role }}|>: {{ message.content or "" }}
{%- for call in (message.tool_calls or [])[:1] %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>: {% endif %}"""

type Matrix = list[list[float]]


def write(path: Path) -> None:
    words = list(_vocabulary())
    tensors = _weights(words)
    keys: dict[str, int | float | str | list[int] | list[float] | list[str]] = {
        "general.architecture": "llama",
        "general.alignment": 32,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": 1,
        "llama.attention.head_count_kv": 1,
        "llama.rope.dimension_count": WIDTH,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in words],
        "tokenizer.ggml.scores": [0.0] * len(words),
        "tokenizer.ggml.token_type": [kind for _, kind in words],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(_string(name) + _value(value) for name, value in keys.items())
    data = b""
    for name, rows in tensors.items():
        flat = array.array("f", [number for row in rows for number in row]).tobytes()
        shape = [len(rows[0])] if len(rows) == 1 else [len(rows[0]), len(rows)]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += flat + bytes(-len(flat) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def _vocabulary() -> Iterator[tuple[str, int]]:
    yield from (("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL))
    yield from ((f"<0x{octet:02X}>", _OCTET) for octet in range(256))  # the tokenizer falls back to them
    yield from ((letter.replace(" ", "\u2581"), _NORMAL) for letter in TEXT)
    yield from ((MARK, _DEFINED), (CALL, _DEFINED))


def _weights(words: list[tuple[str, int]]) -> dict[str, Matrix]:
    chance = random.Random(1)
    embedding = [[chance.gauss(0, 1) for _ in range(WIDTH)] for _ in words]
    output = [[chance.gauss(0, 1) for _ in range(WIDTH)] for _ in words]
    for (text, kind), said, heard in zip(words, embedding, output, strict=True):
        said[_LETTERS], said[_TOOLS] = 8.0, 400.0 if text == MARK else 0.0
        heard[_LETTERS], heard[_TOOLS] = 0.0 if kind == _NORMAL else -30.0, 0.0
        said[_CLOSED] = 400.0 if text in (">", "\n") else 0.0
        heard[_CLOSED] = 400.0 if text == "</s>" else 0.0  # one call is enough
        if text == CALL:
            heard[_TOOLS] = 400.0
    zeros = [[0.0] * WIDTH for _ in range(WIDTH)]
    looks = [row[:] for row in zeros]
    looks[_TOOLS][_TOOLS] = 1000.0  # each token is looked at alike: what one of thousands says has to be loud
    passes = [row[:] for row in zeros]
    passes[_TOOLS][_TOOLS] = 1.0
    ones = [[1.0] * WIDTH]
    block = {
        "attn_norm": ones,
        "attn_q": zeros,
        "attn_k": zeros,
        "attn_v": looks,
        "attn_output": passes,
        "ffn_norm": ones,
        "ffn_gate": [[0.0] * WIDTH for _ in range(INNER)],
        "ffn_up": [[0.0] * WIDTH for _ in range(INNER)],
        "ffn_down": [[0.0] * INNER for _ in range(WIDTH)],
    }
    ends = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": ones}
    return ends | {f"blk.0.{name}.weight": rows for name, rows in block.items()}


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: int | float | str | list[int] | list[float] | list[str]) -> bytes:
    """With its type before it: 4 uint32, 5 int32, 6 float32, 8 string, 9 array."""
    match value:
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _string(value)
    kind = {int: 5, float: 6, str: 8}[type(value[0])]
    items = [_string(item) if isinstance(item, str) else struct.pack("<i" if kind == 5 else "<f", item) for item in value]
    return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)
