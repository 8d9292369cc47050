"""Text of records as a terminal may show it: printable ASCII, cut to its column. Nothing a sandbox wrote can move the cursor."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[^ -\[\]-~]")


def safe(value: object) -> str:
    """What is not printable ASCII, and the backslash, is spelt out."""
    return _UNSAFE.sub(lambda match: _spell(ord(match[0])), str(value))


def plain(value: object, width: int) -> str:
    """The same in so many columns."""
    text = safe(value)
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "~" if width > 1 else text[:width]


def seconds(value: float | None) -> str:
    """Six columns: 950us, 12.3ms, 4.56s."""
    if value is None:
        return "-"
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{value * factor:.3g}{unit}"
    return f"{value:.3g}s"


def rate(value: float) -> str:
    return "0" if value < 0.005 else f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def octets(value: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if value < 1000 or unit == "G":
            return f"{value:.0f}{unit}" if value >= 100 or unit == "B" else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError


def _spell(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
