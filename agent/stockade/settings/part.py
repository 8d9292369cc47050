"""A part of a settings file that fits the specification: its values by key, each with its place. Owns how texts become numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stockade.policy.format.amounts import size
from stockade.policy.format.document import NOWHERE, Listing, Mapping, Node, Place, Scalar

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Part:
    """A mapping. What is not there has the default that is asked for with it."""

    node: Node | None

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        """Every key that is stated, and where."""
        for key, _ in self.node if isinstance(self.node, Mapping) else ():
            yield key.text, key.place

    @property
    def place(self) -> Place:
        return self.node.place if self.node is not None else NOWHERE

    def at(self, key: str) -> Place:
        """Where its value stands, or the mapping when it is not stated."""
        node = self._get(key)
        return self.place if node is None else node.place

    def text(self, key: str) -> str | None:
        node = self._get(key)
        return node.text if isinstance(node, Scalar) else None

    def word(self, key: str, default: str) -> str:
        return self.text(key) or default

    def whole(self, key: str, default: int) -> int:
        text = self.text(key)
        return default if text is None else int(text)

    def number(self, key: str, default: float) -> float:
        text = self.text(key)
        return default if text is None else float(text)

    def flag(self, key: str, default: bool) -> bool:
        text = self.text(key)
        return default if text is None else text == "true"

    def size(self, key: str, default: int) -> int:
        """Bytes."""
        text = self.text(key)
        return default if text is None else size(text)

    def seconds(self, key: str, default: float) -> float:
        text = self.text(key)
        return default if text is None else seconds(text)

    def part(self, key: str) -> Part:
        return Part(self._get(key))

    def parts(self, key: str) -> list[Part]:
        node = self._get(key)
        return [Part(item) for item in node.items] if isinstance(node, Listing) else []

    def texts(self, key: str) -> list[tuple[str, Place]]:
        """A list of texts, each with its place."""
        node = self._get(key)
        return [(item.text, item.place) for item in node.items if isinstance(item, Scalar)] if isinstance(node, Listing) else []

    def pairs(self, key: str) -> dict[str, tuple[str, Place]]:
        """Names that the author chose, each with its value and where that stands."""
        node = self._get(key)
        return (
            {name.text: (value.text, value.place) for name, value in node if isinstance(value, Scalar)} if isinstance(node, Mapping) else {}
        )

    def _get(self, key: str) -> Node | None:
        return next((value for name, value in self.node if name.text == key), None) if isinstance(self.node, Mapping) else None


def seconds(text: str) -> float:
    """Of a text that fits DURATION of spec.py."""
    unit = text.lstrip("0123456789")
    return int(text[: -len(unit)]) * _SECONDS[unit]
