"""What a policy says about detection, as every part of the router passes it on. Imports no detector: a proxy worker has none."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.privacy.dictionary import Custom, Dictionary

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds: (category or `family.*` or `*`, least score); the most exact name holds."""

    thresholds: tuple[tuple[str, float], ...] = ()
    dictionaries: tuple[Dictionary, ...] = ()
    custom: tuple[Custom, ...] = ()

    def threshold(self, category: str) -> float:
        exact = dict(self.thresholds)
        family = category.partition(".")[0] + ".*"
        return exact.get(category, exact.get(family, exact.get("*", DEFAULT_THRESHOLD)))
