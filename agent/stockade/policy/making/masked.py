"""Paths as a trail has them: credentials are masked, and one mask may stand for several segments."""

from __future__ import annotations

import re

MASK = "***"
_SEVERAL = re.compile(r"/(?:services|workflows|triggers|webhookb2|IncomingWebhook)/.*\*\*\*")  # audit/mask.py closes over slashes there


def hides_segments(path: str) -> bool:
    """Whether the mask at the end of a recorded path may stand for more than one segment."""
    return _SEVERAL.fullmatch(path) is not None


def spellings(path: str) -> tuple[str, ...]:
    """Every path that a recorded one may have been for a server: its readings, and as many segments as the mask may hide (at most four)."""
    from stockade.proxy.canonical import readings  # as question.py: whoever only reads policies does without the package above it

    found = readings(path)
    if hides_segments(path):
        found = (*found, *(each + f"/{MASK}" * more for each in found for more in (1, 2, 3)))
    return found
