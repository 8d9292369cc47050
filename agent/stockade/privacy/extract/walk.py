"""The walk over a body that every API shares: whatever a schema says, each string of it becomes a piece or has a strict form.

A schema is built from readers. A reader takes a node that is what it expects, and hands every other node to `everything`: so a field of
the wrong type, an unknown field or a schema of next year is read without a role, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from stockade.privacy.extract.call import At, Piece, Role, Unreadable
from stockade.privacy.extract.tree import DEPTH, DataUrl, Json, Number, Step, parse, unbase64, utf8

DIGITS = 5  # of a number that may mean somebody: a postal code, a record number, a card
TOKENS = 16  # whole numbers in a row, outside of texts and arguments, are text as tokens or as character codes
ROWS = 64  # the same of all rows of a body together, however short each is
PIECES = 100_000

# What is random has digits, capitals and small letters; a run of this many octets that can be read is rare in it (1 in 20 seals of 1 KiB).
_MIXTURE = re.compile(r"(?=.*[0-9+/_-])(?=.*[A-Z])(?=.*[a-z])")
_LEGIBLE = re.compile(rb"[ -~]{10,}")

type Reader = Callable[[Walk, Json, At, Role], None]


class Walk:
    """What was found so far."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.tools: dict[str, None] = {}
        self._in_rows = 0

    def row(self, node: list[Json]) -> None:
        """The numbers of a list that no schema has. Raises Unreadable where they are text in another form, or may be."""
        numbers = sum(isinstance(each, Number) for each in node)
        self._in_rows += numbers
        if self._in_rows >= ROWS or (len(node) >= TOKENS and numbers == len(node)):
            raise Unreadable("tokens")

    def piece(self, text: str, role: Role, at: At) -> None:
        """An empty text is none. Raises Unreadable for too many."""
        if text:
            if len(self.pieces) >= PIECES:
                raise Unreadable("too_large")
            self.pieces.append(Piece(text, role, at))

    def text(self, text: str, role: Role, at: At) -> None:
        """A text; or what it holds, where it is a data URL, or JSON in which escapes would hide it from a reader of the text."""
        url = DataUrl.parse(text)
        if url is not None and url.typed and (why := unreadable_media(url.media_type)) is not None:
            raise Unreadable(why)
        if url is not None and url.plain:
            self.text(url.text(), role, (*at, Step.DATA_URL))
        elif "\\" in text and (inner := embedded_json(text)) is not None:
            self.data(inner, role, (*at, Step.JSON))
        else:
            self.piece(text, role, at)

    def data(self, node: Json, role: Role, at: At) -> None:
        """Data of no schema: all strings, all keys, all numbers that may mean somebody. Raises Unreadable."""
        if len(at) > 3 * DEPTH:
            raise Unreadable("too_deep")  # JSON in strings in JSON
        match node:
            case str():
                self.text(node, role, at)
            case Number():
                self.number(node, role, at)
            case dict():
                for index, (key, value) in enumerate(node.items()):
                    self.text(key, role, (*at, index))
                    self.data(value, role, (*at, key))
            case list():
                for index, value in enumerate(node):
                    self.data(value, role, (*at, index))
            case _:
                pass

    def number(self, node: Number, role: Role, at: At, digits: int = DIGITS) -> None:
        if sum(character.isdigit() for character in node.spelling) >= digits:
            self.piece(node.spelling, role, at)

    def base64(self, node: str, media_type: str, role: Role, at: At) -> None:
        """Encoded content of a declared type."""
        self.media(media_type, lambda: self._decoded(node, role, at))

    def _decoded(self, node: str, role: Role, at: At) -> None:
        self.text(utf8(unbase64(node)), role, (*at, Step.BASE64))

    def media(self, media_type: str, read: Callable[[], None]) -> None:
        """Reads what its type says is text, else raises Unreadable with what it is."""
        if (why := unreadable_media(media_type)) is not None:
            raise Unreadable(why)
        read()


def everything(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A node that the schema does not have: all that is in it. Raises Unreadable for what is no text."""
    match node:
        case str() if len(node) >= 256 and (opaque := _blob(node)) is not None:
            if not opaque:
                raise Unreadable("binary")
            walk.text(opaque, role, (*at, Step.BASE64))
        case dict():
            for index, (key, value) in enumerate(node.items()):
                walk.text(key, role, (*at, index))
                everything(walk, value, (*at, key), role)
        case list():
            walk.row(node)
            for index, value in enumerate(node):
                everything(walk, value, (*at, index), role)
        case _:
            walk.data(node, role, at)


def data(walk: Walk, node: Json, at: At, role: Role) -> None:
    """Data of the caller: arguments, results, examples."""
    walk.data(node, role, at)


def text(role: Role | None = None) -> Reader:
    """A text of this role, or of the role of what it is in."""

    def read(walk: Walk, node: Json, at: At, outer: Role) -> None:
        if isinstance(node, str):
            walk.text(node, role or outer, at)
        else:
            everything(walk, node, at, role or outer)

    return read


def arguments(walk: Walk, node: Json, at: At, role: Role) -> None:
    """JSON inside a string, or an object outright; what is no JSON there is a text."""
    inner = embedded_json(node) if isinstance(node, str) else None
    if inner is not None:
        walk.data(inner, Role.TOOL_CALL, (*at, Step.JSON))
    else:
        walk.data(node, Role.TOOL_CALL, at)


def each(reader: Reader) -> Reader:
    """Of a list; a node that is none is read as if it stood in one."""

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        if isinstance(node, list):
            for index, item in enumerate(node):
                reader(walk, item, (*at, index), role)
        elif node is not None:
            reader(walk, node, at, role)

    return read


def fields(known: Mapping[str, Reader], *, role: Role | None = None, string: Role | None = None) -> Reader:
    """An object. role: of its unknown fields. string: a bare string in its place is a text of this role."""

    def read(walk: Walk, node: Json, at: At, outer: Role) -> None:
        if not isinstance(node, dict):
            everything(walk, node, at, string or role or outer)
            return
        for index, (key, value) in enumerate(node.items()):
            if (reader := known.get(key)) is not None:
                reader(walk, value, (*at, key), role or outer)
            else:
                walk.text(key, Role.OTHER, (*at, index))
                everything(walk, value, (*at, key), role if role is not None else Role.OTHER)

    return read


def by(key: str, kinds: Mapping[str, Reader], default: Reader) -> Reader:
    """One reader per value of a field."""

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        kind = node.get(key) if isinstance(node, dict) else None
        (kinds.get(kind, default) if isinstance(kind, str) else default)(walk, node, at, role)

    return read


def with_role(reader: Reader, role: Role) -> Reader:
    def read(walk: Walk, node: Json, at: At, _outer: Role) -> None:
        reader(walk, node, at, role)

    return read


def unreadable(why: str) -> Reader:
    """Reads nothing, and raises Unreadable(why) where there is something."""

    def read(_walk: Walk, node: Json, _at: At, _role: Role) -> None:
        if node not in (None, "", [], {}):
            raise Unreadable(why)

    return read


def form(pattern: str) -> Reader:
    """A structural field: a text of this form is none, any other is a piece. Numbers and flags are what they are."""
    compiled = re.compile(pattern)

    def read(walk: Walk, node: Json, at: At, role: Role) -> None:
        if not (isinstance(node, str) and compiled.fullmatch(node)):
            everything(walk, node, at, Role.OTHER)

    return read


def one_of(*words: str) -> Reader:
    return form("|".join(map(re.escape, words)))


def setting(walk: Walk, node: Json, at: At, _role: Role) -> None:
    """A number that steers: a limit, a temperature, a seed. One of more digits than that is a piece all the same."""
    if isinstance(node, Number):
        walk.number(node, Role.OTHER, at, digits=DIGITS + 1)
    else:
        everything(walk, node, at, Role.OTHER)


def tool_name(walk: Walk, node: Json, at: At, role: Role) -> None:
    """The name of a tool that is called. It is a text too."""
    if isinstance(node, str):
        walk.tools.setdefault(node)
    text()(walk, node, at, role)


def opaque(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A sealed blob that the provider gave out and wants back: signatures, encrypted reasoning. Text in its place is read."""
    blob = _blob(node) if isinstance(node, str) and len(node) >= 16 else None
    if not isinstance(node, str) or blob is None or not _MIXTURE.search(node):
        everything(walk, node, at, role)
    elif blob:
        walk.text(blob, role, (*at, Step.BASE64))
    elif runs := _LEGIBLE.findall(unbase64(node)):
        # Such a piece is exchanged as a whole: the provider refuses the seal then, and nothing that was legible has left.
        walk.piece(" ".join(run.decode() for run in runs), role, at)


def embedded_json(text: str) -> Json:
    """An object or array that a string holds; None for any other. Raises Unreadable for one that two readers may read differently."""
    if text.strip(" \t\r\n")[:1] not in ("{", "["):
        return None
    try:
        return parse(text)
    except Unreadable as problem:
        if problem.why == "not_json":
            return None
        raise


def unreadable_media(media_type: str) -> str | None:
    """Why content of this type cannot be read; None for text."""
    media_type = media_type.partition(";")[0].strip().lower()
    kind, _, sort = media_type.partition("/")
    if kind in ("image", "audio", "video") and sort != "svg+xml":
        return kind
    if sort == "pdf":
        return "pdf"
    textual = (
        "json",
        "jsonl",
        "x-ndjson",
        "ndjson",
        "xml",
        "csv",
        "yaml",
        "x-yaml",
        "toml",
        "javascript",
        "x-python",
        "sql",
        "x-sh",
        "graphql",
    )
    if kind == "text" or sort in textual or sort.endswith(("+json", "+xml", "+yaml")):
        return None
    return "binary"


def _blob(text: str) -> str | None:
    """None: no base64 at all. Else the text that it encodes, or "" where it encodes none."""
    if not re.fullmatch(r"[A-Za-z0-9+/_-]+={0,2}", text):
        return None
    try:
        found = unbase64(text).decode("utf-8")
    except (Unreadable, UnicodeDecodeError):
        return ""
    return found if all(character.isprintable() or character in "\t\r\n" for character in found) else ""


# Forms of fields that carry no text.
UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
# Random ones have digits among the letters; one that has not is read. Short ones without a prefix are read too.
_MIXED = r"(?=(?:[A-Za-z]*\d){2})[A-Za-z0-9]"
_RANDOM = (
    rf"{UUID}|(?:toolu|srvtoolu|mcptoolu|msg|req)_(?:bdrk_|vrtx_)?01{_MIXED}{{22}}|call_{_MIXED}{{24}}"
    r"|(?:msg|resp|rs|fc|ctc|ws|fs|ci|cu|mcp|mcpr|mcpl|lsh|sh|ap|conv|ig|cmp|thread)_[0-9a-f]{32,64}"
    rf"|(?:chatcmpl-tool-|chatcmpl-|call_|tooluse_)(?:[0-9a-f]{{32}}|{UUID})|tooluse_[A-Za-z0-9_-]{{22}}"
    r"|call_\d{1,3}|\d{1,4}"
)
identity = form(_RANDOM)
# A user as frameworks write it when it means nobody: a hash, a number of the kind above.
pseudonym = form(rf"{UUID}|[0-9a-f]{{64}}|user_[0-9a-f]{{64}}_account_(?:{UUID})?_session_{UUID}")
# A model's name is made of words that models' names are made of. Any other name in its place may be that of a person, and is read.
_FAMILIES = (
    "gpt|chatgpt|codex|davinci|babbage|o|claude|llama|gemini|gemma|mistral|ministral|mixtral|codestral|magistral|pixtral|devstral|qwen|qwq"
    "|deepseek|command|titan|nova|phi|granite|nemotron|grok|kimi|glm|minimax|falcon|embed|embedding|minilm|bge|e|rerank|moderation|smollm"
)
_QUALIFIERS = (
    "a|all|air|anthropic|amazon|ai|apac|audio|base|chat|code|coder|cohere|coding|distill|en|english|ep|eu|exp|experimental|express|fast|flash"
    "|fp|free|global|google|guard|haiku|high|hf|instant|instruct|it|k|l|large|latest|lite|long|low|m|max|medium|meta|micro|microsoft|mini"
    "|mistralai|moe|multilingual|nano|nomic|nvidia|omni|open|openai|opus|oss|plus|premier|preview|pro|q|r|reasoner|reasoning|s|search|small"
    "|sonnet|super|text|thinking|tiny|turbo|ultra|us|v|versatile|vision|vl|w|x|xl"
)
_PART = rf"(?:{_FAMILIES}|{_QUALIFIERS})?(?:\d{{1,4}}[a-z]{{0,2}}|20[23]\d[01]\d[0-3]\d)?"
model_name = form(
    rf"(?i)(?=.{{1,96}}\Z)(?!.*\d{{3}}[._:/\-]\d{{3}})(?!.*\d[._:/\-]\d{{2}}[._:/\-]\d{{4}})"
    rf"(?=(?:.*[._:/\-])?(?:{_FAMILIES})[\d._:/\-a-z]{{0,4}}(?:[._:/\-]|\Z)){_PART}(?:[._:/\-]{_PART}){{0,15}}"
)
seconds = form(r"-?\d{1,6}(?:\.\d{1,6})?(?:ns|us|ms|s|m|h)?")
word_of_a_role = one_of("system", "developer", "user", "assistant", "tool", "function", "model", "critic", "discriminator")
cache_control = fields({"type": one_of("ephemeral"), "ttl": seconds})
