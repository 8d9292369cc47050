"""What the section `metrics` says."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.policy.format.document import Findings
from stockade.settings.part import Part


@dataclass(frozen=True, slots=True)
class Metrics:
    """Nothing is stated yet."""


def metrics(part: Part, findings: Findings) -> Metrics:
    return Metrics()
