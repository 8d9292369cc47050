"""The texts of a call, read by the form of its body: every string, every key, every number that may mean somebody is a piece.

No schema is needed for that, so nothing is skipped because a schema is older than the API; roles are told where every API writes them
alike. What is not JSON is not read. `rewrite` puts other texts in the places of pieces and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stockade.privacy.extract.call import Api, At, Call, Piece, Role, Unreadable
from stockade.privacy.extract.decode import content_type, decoded, encodings
from stockade.privacy.extract.tree import Json, dump, exchange, parse_bytes
from stockade.privacy.extract.walk import Walk, everything, unreadable_media

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "assistant": Role.ASSISTANT, "model": Role.ASSISTANT, "tool": Role.TOOL_RESULT}
_TOP = {"system": Role.SYSTEM, "instructions": Role.SYSTEM, "tools": Role.TOOL_DEFINITION, "functions": Role.TOOL_DEFINITION}
_TURNS = ("messages", "contents", "input")
# Parts of the known schemas that are no text, whatever they are encoded in: an image may show anything.
_MEDIA = {
    **dict.fromkeys(("image", "image_url", "input_image", "images", "inlineData", "inline_data"), "image"),
    **dict.fromkeys(("input_audio", "audio"), "audio"),
    **dict.fromkeys(("file", "input_file", "fileData", "file_data", "file_id"), "reference"),
}


def extract(api: Api, headers: Sequence[tuple[str, str]], body: bytes) -> Call:
    """Raises Unreadable."""
    kind, _ = content_type(headers)
    if kind.startswith("multipart/"):
        raise Unreadable("multipart")
    applied = encodings(headers)
    root = parse_bytes(decoded(body, applied))
    if not isinstance(root, dict):
        raise Unreadable("unknown_schema")
    _demand_texts(root)
    walk = Walk()
    everything(walk, root, (), Role.USER)
    pieces = tuple(Piece(piece.text, _role(root, piece.at), piece.at) for piece in walk.pieces)
    model, stream = root.get("model"), root.get("stream")
    tools: dict[str, None] = {}
    _tool_calls(root, tools)
    streams = stream is True or ((api is Api.OLLAMA_CHAT or api is Api.OLLAMA_GENERATE) and stream is not False)
    return Call(api, model if isinstance(model, str) else None, streams, pieces, tuple(tools), applied)


def rewrite(call: Call, body: bytes, texts: Mapping[int, str]) -> bytes:
    """The body, without a content encoding, with these texts instead of its pieces. Raises Unreadable."""
    places: dict[At, str] = {call.pieces[number].at: text for number, text in texts.items()}
    try:
        return dump(exchange(parse_bytes(decoded(body, call.encodings)), places)).encode()
    except KeyError:
        raise Unreadable("unknown_schema") from None


def _demand_texts(node: Json) -> None:
    match node:
        case dict():
            for key, value in node.items():
                if key in _MEDIA and value:
                    raise Unreadable(_MEDIA[key])
                if key == "type" and isinstance(value, str) and value in _MEDIA:
                    raise Unreadable(_MEDIA[value])
                if key in ("media_type", "mimeType", "mime_type") and isinstance(value, str) and (why := unreadable_media(value)):
                    raise Unreadable(why)
                _demand_texts(value)
        case list():
            for each in node:
                _demand_texts(each)
        case _:
            pass


def _role(root: dict[str, Json], at: At) -> Role:
    first = at[0] if at else ""
    if isinstance(first, int):
        return Role.OTHER  # a key
    if first in _TURNS and len(at) > 1:
        turns = root[first]
        turn = turns[at[1]] if isinstance(turns, list) and isinstance(at[1], int) and at[1] < len(turns) else None
        said = turn.get("role") if isinstance(turn, dict) else None
        return _ROLES.get(said, Role.USER) if isinstance(said, str) else Role.USER
    return _TOP.get(first, Role.OTHER if first not in (*_TURNS, "prompt") else Role.USER)


def _tool_calls(node: Json, found: dict[str, None]) -> None:
    match node:
        case dict():
            name = node.get("name")
            if isinstance(name, str) and ("arguments" in node or ("input" in node and node.get("type") == "tool_use") or "args" in node):
                found[name] = None
            for value in node.values():
                _tool_calls(value, found)
        case list():
            for each in node:
                _tool_calls(each, found)
        case _:
            pass
