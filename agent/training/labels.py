"""What the network's outputs mean, and sets of them as bit masks.

A corpus seldom marks everything: where it leaves a token open, the token's mask allows several labels and the loss asks only for one of them.
"""

from __future__ import annotations

NOTHING = "O"
TERM = "medical.term"
"""A diagnosis, drug or procedure spoken of in general, about nobody: no category of ours. It keeps `phi.clinical` for described patients."""
LABELS = (
    NOTHING, "pii.person", "pii.staff", "phi.identifier", "phi.clinical", "pii.location", "pii.organisation", "pii.date", "pii.age",
    "pii.demographic", "pii.contact", "pii.government", "financial.account", "credential.password", TERM,
)  # fmt: skip
NUMBER = {label: number for number, label in enumerate(LABELS)}


def mask(*labels: str) -> int:
    """The bit mask that allows these labels."""
    return sum(1 << NUMBER[label] for label in set(labels))


ANY = (1 << len(LABELS)) - 1
