"""HTML from text that nobody has to trust: every text is escaped, and what cannot be seen, or turns the line around, is spelt out.

There is no way to put markup in but by `tag`, whose names and attributes are ours.
"""

from __future__ import annotations

import unicodedata
from html import escape


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


type Child = Markup | str | int | None


def text(value: object) -> Markup:
    """The text of a record, as it may stand in a page."""
    return Markup(escape("".join(each if _harmless(each) else _spelt(each) for each in str(value))))


def tag(name: str, *children: Child, **attributes: object) -> Markup:
    """One element. children: markup stays, anything else is text, None is left out. `klass` is the class, `_` in a name is `-`."""
    shown = "".join(f' {_name(key)}="{text(value)}"' for key, value in attributes.items() if value is not None and value is not False)
    inner = "".join(each if isinstance(each, Markup) else text(each) for each in children if each is not None)
    return Markup(f"<{name}{shown}>{inner}</{name}>")


def join(*children: Child, by: str = "") -> Markup:
    return Markup(text(by).join(each if isinstance(each, Markup) else text(each) for each in children if each is not None))


def _name(key: str) -> str:
    return "class" if key == "klass" else key if key == "viewBox" else key.replace("_", "-")


def _harmless(letter: str) -> bool:
    """Letters of every alphabet are, and no control, format, surrogate or unassigned character, nor a separator of lines."""
    return letter == " " or (unicodedata.category(letter)[0] != "C" and unicodedata.category(letter) not in ("Zl", "Zp"))


def _spelt(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
