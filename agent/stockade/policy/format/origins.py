"""Origins: where each line of a composed policy was written. Kept as the loader met it, and looked into only when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockade.policy.format.document import NOWHERE, Listing, Node, Place, Scalar
from stockade.policy.format.document import Mapping as Keys
from stockade.policy.format.schema import RuleDraft


@dataclass(frozen=True, slots=True)
class Origins:
    """words: by dotted key (`exec.unlisted`). entries: by dotted key, then by entry or name. rules: each as it is after overrides."""

    words: Mapping[str, Place] = field(default_factory=dict)
    entries: Mapping[str, Mapping[str, Place]] = field(default_factory=dict)
    rules: Mapping[str, RuleDraft] = field(default_factory=dict)

    def word(self, key: str) -> Place:
        """NOWHERE for a default, which nobody wrote."""
        return self.words.get(key, NOWHERE)

    def entry(self, key: str, text: str) -> Place:
        return self.entries.get(key, {}).get(text, NOWHERE)

    def in_rule(self, rule: str, key: str) -> dict[str, Place]:
        """The places of what stands under a key of a rule (`path.deny`, `tls`), by text; a single value counts as a list of one."""
        draft = self.rules.get(rule)
        head, _, tail = key.partition(".")
        if draft is None or head not in draft.keys:
            return {}
        node: Node | None = draft.keys[head][1]
        if tail:
            node = next((value for name, value in node if name.text == tail), None) if isinstance(node, Keys) else None
        items = node.items if isinstance(node, Listing) else (node,)
        return {item.text: item.place for item in items if isinstance(item, Scalar)}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as nothing: a policy goes to the proxy worker at each reload, and the worker explains nothing."""
        return (Origins, ())
