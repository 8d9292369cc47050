"""docs/privacy-detectors.md, made from the detectors themselves. A test fails when the page is stale."""

from __future__ import annotations

from collections.abc import Iterator

from stockade.privacy.finding import CATEGORIES
from stockade.privacy.patterns import PATTERNS, vendors
from stockade.privacy.patterns.subject import Pattern

_HEAD = """\
# What is looked for in a text

Made from the detectors by `STOCKADE_GOLDEN=write pytest tests/unit/privacy/test_detector_page.py`. A finding has a score from 0 to 1; a
policy's `privacy.detect.thresholds` says from which on it counts, 0.5 where it says nothing. *Word near* means that there is no finding
without a word that names it in the text around; *check* means that a checksum or a rule of the issuer must hold.
"""


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "## Categories\n\n| category | what it is |\n|---|---|"
    for name, says in CATEGORIES.items():
        yield f"| `{name}` | {says} |"
    yield "\n## Values that have a form\n"
    yield "| detector | category | what it takes | check | word near | score | with a word near |\n" + "|---" * 7 + "|"
    for pattern in PATTERNS:
        yield _row(pattern)
    yield "| `phone` | `pii.contact` | phone numbers of all countries, as libphonenumber knows them | yes | | | |"
    rules = [rule for rule in vendors.load()[0] if rule.id != vendors.GENERIC]
    yield (
        f"\n## Keys and tokens of vendors\n\n{len(rules)} rules of gitleaks. Besides, a credential is known by the name it is given to "
        "(`assigned:`), by its randomness (`random:`) and by the mark of a canary (`canary:`).\n"
    )
    yield "| rule | category |\n|---|---|"
    for rule in rules:
        yield f"| `{rule.id}` | `{rule.category}` |"


def _row(pattern: Pattern) -> str:
    checked = "yes" if pattern.check or pattern.trim else ""
    near = "needed" if pattern.required else "lifts" if pattern.near else ""
    score = "" if pattern.required else f"{pattern.score:g}"
    lifted = f"{max(pattern.score, pattern.lifted):g}" if pattern.near else ""
    return f"| `{pattern.name}` | `{pattern.category}` | {pattern.says} | {checked} | {near} | {score} | {lifted} |"
