"""JSON as it stands: read strictly, numbers in their own spelling, texts exchanged at their places, nothing else changed.

Two readers may differ about a body: about the second of two equal keys, a NaN, a lone surrogate. Such a body is not read at all.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

from stockade.privacy.extract.call import At, Unreadable

DEPTH = 96  # arrays and objects within each other; the deepest tool schemas seen have about 20
NODES = 400_000


class Number:
    """A number as it is spelt: 1e400 and 2**70 survive, 1.10 does not become 1.1."""

    __slots__ = ("spelling",)

    def __init__(self, spelling: str) -> None:
        self.spelling = spelling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.spelling == self.spelling

    def __hash__(self) -> int:
        return hash(self.spelling)

    def __repr__(self) -> str:
        return f"Number({self.spelling})"


type Json = bool | Number | str | list[Json] | dict[str, Json] | None


class Step(StrEnum):
    """A step of a place below a string: how it is read on."""

    JSON = "@json"
    BASE64 = "@base64"
    DATA_URL = "@data"


_SURROGATE = re.compile("[\ud800-\udfff]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}")
_DATA_URL = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(?:;[^,;]*)*?)(?P<base64>;base64)?,(?P<data>.*)", re.I | re.S)
# A head that says nothing but how its data is read. Types of text are a closed list: a free one is a word that somebody chose.
_TEXTS = (
    r"text/(?:plain|markdown|x-markdown|csv|tab-separated-values|html|css|xml|calendar|javascript|yaml|x-yaml|x-python|x-c|x-java|x-sh|x-log)"
    r"|application/(?:json|jsonl|x-ndjson|ndjson|ld\+json|xml|xhtml\+xml|csv|yaml|x-yaml|toml|javascript|x-python|sql|x-sh|graphql)"
    r"|image/svg\+xml"
)
_PLAIN_HEAD = re.compile(rf"data:(?:{_TEXTS})?(?:;charset=[\w-]{{1,40}})?(?:;base64)?,", re.I | re.A)
_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")


def parse(text: str) -> Json:
    """Raises Unreadable."""
    if text.startswith("\ufeff"):
        raise Unreadable("encoding")
    try:
        found: Json = json.loads(text, object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=_constant)
    except RecursionError:
        raise Unreadable("too_deep") from None
    except json.JSONDecodeError:
        raise Unreadable("not_json") from None
    _demand_bounded(found)
    if "\\u" in text and re.search(r"\\u[dD][89a-fA-F]", text):
        _demand_no_surrogate(found)
    return found


def parse_bytes(data: bytes) -> Json:
    """The same of octets, which must be UTF-8; a byte order mark of UTF-8 is let be. Raises Unreadable."""
    if data[:4] in (b"\0\0\xfe\xff", b"\xff\xfe\0\0") or data[:2] in (b"\xfe\xff", b"\xff\xfe") or b"\0" in data[:4]:
        raise Unreadable("encoding")
    try:
        return parse(data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise Unreadable("encoding") from None


def dump(node: Json) -> str:
    """Without spaces, and without escapes that are not needed. Depth is bounded by `parse`."""
    match node:
        case None:
            return "null"
        case bool():
            return "true" if node else "false"
        case Number():
            return node.spelling
        case str():
            return json.dumps(node, ensure_ascii=False)
        case list():
            return "[" + ",".join(map(dump, node)) + "]"
        case dict():
            return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{dump(value)}" for key, value in node.items()) + "}"


def exchange(node: Json, texts: Mapping[At, str]) -> Json:
    """The node with the texts at these places (relative to it) in their stead. Raises KeyError for a place that it does not have."""
    if not texts:
        return node
    if () in texts:
        if len(texts) > 1 or not isinstance(node, str | Number):
            raise KeyError(())
        return texts[()]
    below: dict[str | int, dict[At, str]] = {}
    for at, text in texts.items():
        below.setdefault(at[0], {})[at[1:]] = text
    match node:
        case dict():
            return _exchange_in_object(node, below)
        case list():
            items = list(node)
            for index, inner in below.items():
                if not isinstance(index, int) or not 0 <= index < len(items):
                    raise KeyError(index)
                items[index] = exchange(items[index], inner)
            return items
        case str():
            ((step, inner),) = below.items()
            return _exchange_below(node, Step(str(step)), inner)
    raise KeyError(next(iter(below)))


def _exchange_in_object(node: dict[str, Json], below: Mapping[str | int, Mapping[At, str]]) -> dict[str, Json]:
    """A whole number among the steps is the key of that index itself."""
    made: dict[str, Json] = {}
    for index, (key, value) in enumerate(node.items()):
        name = below[index][()] if index in below else key
        if name in made:
            raise Unreadable("duplicate_key")  # two keys that became the same placeholder or mask
        made[name] = exchange(value, below[key]) if key in below else value
    for step in below:
        if step not in node and not (isinstance(step, int) and 0 <= step < len(node)):
            raise KeyError(step)
    return made


def _exchange_below(node: str, step: Step, inner: Mapping[At, str]) -> str:
    match step:
        case Step.JSON:
            return dump(exchange(parse(node), inner))
        case Step.BASE64:
            made = exchange(utf8(unbase64(node)), inner)
            assert isinstance(made, str)
            return base64.b64encode(made.encode()).decode()
        case Step.DATA_URL:
            url = DataUrl.parse(node)
            assert url is not None
            made = exchange(url.text(), inner)
            assert isinstance(made, str)
            return url.head + (base64.b64encode(made.encode()).decode() if url.encoded else quote(made, safe=""))


class DataUrl:
    """`data:` with what it says about itself (RFC 2397). plain: its head can hold nothing else, so that its data is all there is to read.
    typed: it names a type, or is encoded; one that is neither may be any text that begins with that word.
    """

    def __init__(self, head: str, media_type: str, charset: str, encoded: bool, data: str) -> None:
        self.head, self.media_type, self.charset, self.encoded, self.data = head, media_type, charset, encoded, data
        self.plain = _PLAIN_HEAD.fullmatch(head) is not None
        self.typed = encoded or _TYPE.fullmatch(media_type) is not None

    @classmethod
    def parse(cls, text: str) -> DataUrl | None:
        """None for a text that is no data URL as a whole."""
        if text[:5].lower() != "data:" or not (match := _DATA_URL.fullmatch(text)):
            return None
        charset = "".join(part.partition("=")[2] for part in match["parameters"].split(";") if part.lower().strip().startswith("charset="))
        head = text[: match.start("data")]
        return cls(
            head, match["type"].strip().lower() or "text/plain", charset.strip('" ').lower(), match["base64"] is not None, match["data"]
        )

    def text(self) -> str:
        """Raises Unreadable."""
        if self.charset not in ("", "utf-8", "utf8", "us-ascii"):
            raise Unreadable("encoding")
        return utf8(unbase64(self.data) if self.encoded else unquote_to_bytes(self.data))


def unbase64(text: str) -> bytes:
    """Either alphabet, with or without padding, line breaks allowed; nothing that a lax reader would skip. Raises Unreadable."""
    packed = re.sub(r"[ \t\r\n]+", "", text)
    if not _BASE64.fullmatch(packed):
        raise Unreadable("base64")
    packed = packed.rstrip("=").replace("-", "+").replace("_", "/")
    if len(packed) % 4 == 1:
        raise Unreadable("base64")
    return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)


def utf8(data: bytes) -> str:
    """Raises Unreadable."""
    if b"\0" in data or data[:2] in (b"\xfe\xff", b"\xff\xfe"):
        raise Unreadable("encoding")  # UTF-16 and -32, or no text
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("encoding") from None


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unreadable("duplicate_key")
    return made


def _constant(_name: str) -> NoReturn:
    raise Unreadable("not_json")  # NaN and Infinity: no JSON, though many readers take them


def _demand_bounded(root: Json) -> None:
    count, level = 0, [root]
    for _ in range(DEPTH + 1):
        count += len(level)
        if count > NODES:
            raise Unreadable("too_large")
        below: list[Json] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return
        level = below
    raise Unreadable("too_deep")


def _demand_no_surrogate(root: Json) -> None:
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            if _SURROGATE.search(node):
                raise Unreadable("encoding")
        elif isinstance(node, dict):
            stack.extend(node)
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
