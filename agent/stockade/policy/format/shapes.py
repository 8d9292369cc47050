"""Shapes: what a value of a document can be specified as. Data alone: schema.py reads by them, json_schema.py describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Form:
    """One thing that a text must be, or must not be when refused. message and accepted may hold {text}, and {upper}: it in upper case."""

    pattern: str
    code: str
    message: str
    accepted: str
    refused: bool = False

    def holds(self, text: str) -> bool:
        return (re.fullmatch(self.pattern, text) is None) is self.refused


@dataclass(frozen=True, slots=True)
class Text:
    """Text. outline: a pattern that every text fits which the parser of such values takes; it stands in the JSON Schema only, since that
    parser has better words for what is wrong. title: how the JSON Schema calls it, when it has forms or an outline. or_number: digits
    need no quotes.
    """

    means: str
    forms: tuple[Form, ...] = ()
    outline: str = ""
    title: str = ""
    or_number: bool = False
    fits: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """fits: every form at once, to be held to a whole text. Most texts are fine, and most of a load would go into asking each form."""
        shape = "".join(rf"(?{'!' if form.refused else '='}(?:{form.pattern})\Z)" for form in self.forms)
        object.__setattr__(self, "fits", re.compile(rf"{shape}[\s\S]*"))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; kind: what YAML takes them for."""

    values: tuple[str, ...]
    kind: str = "text"
    code: str = "bad_value"


@dataclass(frozen=True, slots=True)
class Anything:
    """A value that another reader looks at."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number from least to most, both included; in decimal digits, with a fraction when whole is False."""

    means: str
    least: float
    most: int
    code: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Many:
    """A list with at least one entry, none twice. or_one: a single entry may stand without the list."""

    of: Type
    or_one: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping whose keys the author chooses."""

    key: Text
    value: Type
    shape: str


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record. missing: what is said when it is not there; None: it may be left out. carried_out: False is an error, for a
    policy must not promise what nothing enforces.
    """

    name: str
    type: Type
    means: str
    default: str = ""
    missing: Missing | None = None
    carried_out: bool = True


@dataclass(frozen=True, slots=True)
class Missing:
    code: str
    message: str
    accepted: str


@dataclass(frozen=True, slots=True)
class Together:
    """Keys that a record has all of, unless another key has one of the values named: then it has none of them."""

    keys: tuple[str, ...]
    unless: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping whose keys are known. name: how messages call it. title: how it is called in the reference and in the JSON Schema."""

    name: str
    title: str
    means: str
    keys: tuple[Key, ...]
    together: Together | None = None
    by_name: dict[str, Key] = field(init=False, repr=False, compare=False)
    required: tuple[Key, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {key.name: key for key in self.keys})
        object.__setattr__(self, "required", tuple(key for key in self.keys if key.missing))

    def carried_out(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys if key.carried_out)


Type = Text | Choice | Anything | Number | Many | Named | Record
