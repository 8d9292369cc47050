"""The corpus and how it is spoilt: real messages, and what a hostile sender makes of them.

tests/golden/corpus/TARGET holds what real programs said (capture.py); policies and suites are those that the repository ships. A mutation
is drawn by hypothesis, so that what fails is made small before it is shown.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests/golden/corpus"

_EDGES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_WAYS = ("flip", "edge", "octet", "cut", "drop", "double", "splice", "length", "insert")


def seeds(target: str) -> list[bytes]:
    """What real programs said, in the order of their names."""
    found = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert found, f"no corpus in {CORPUS / target}"
    return found


def lines(target: str) -> list[bytes]:
    """The same for a target whose messages are lines of text."""
    return [line for seed in seeds(target) for line in seed.splitlines() if line]


def shipped(*, tests: bool) -> list[Path]:
    """Policies of the repository that load, or the suites beside them."""
    found = sorted(path for folder in ("presets", "examples") for path in (ROOT / "policies" / folder).glob("*.yaml"))
    return [path for path in found if path.stem.endswith("_test") is tests]


@st.composite
def spoilt(draw: st.DrawFn, whole: list[bytes], most: int = 5) -> bytes:
    """One of the corpus after up to `most` mutations; none leaves it whole."""
    data = bytearray(draw(st.sampled_from(whole)))
    for way in draw(st.lists(st.sampled_from(_WAYS), max_size=most)):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match way:
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "edge" if data:
                data[at] = draw(st.sampled_from(_EDGES))
            case "octet" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 32))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "splice":
                other = draw(st.sampled_from(whole))
                data[at:] = other[draw(st.integers(0, len(other))) :]
            case "length":  # a big-endian length that lies by a little, or says all that follows, or much more than that
                size = draw(st.integers(1, 4))
                said = int.from_bytes(data[at : at + size])
                lie = draw(st.sampled_from((said + 1, said - 1, len(data) - at - size, len(data), 0, 256**size - 1)))
                data[at : at + size] = (lie % 256**size).to_bytes(size)
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)
