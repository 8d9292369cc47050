"""The reference: the tables of docs/policy.md and docs/policy-errors.md, made from spec.py and codes.py. A test fails when a page is stale.

A generated part stands between `<!-- NAME, generated -->` and `<!-- end of NAME -->`; the rest of a page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stockade.policy.format.codes import SECTIONS, Code
from stockade.policy.format.shapes import Choice, Key, Many, Named, Number, Record, Text, Type
from stockade.policy.format.spec import POLICY, RULE


def renewed(page: str) -> str:
    """A page with its generated parts as they should be."""
    for name, text in {"keys": keys(), "codes": codes()}.items():
        start, end = f"<!-- {name}, generated -->\n", f"<!-- end of {name} -->"
        page = re.sub(f"{start}.*?{end}", lambda found, new=f"{start}\n{text}\n{end}": new, page, flags=re.DOTALL)  # type: ignore[misc]
    return page


def keys() -> str:
    return tables(RULE, POLICY)


def codes() -> str:
    return "\n".join(section(title, table) for title, table in SECTIONS.items())


def tables(*roots: Record) -> str:
    """A table for each mapping that has keys of its own, each before what it holds."""
    seen: dict[str, Record] = {}
    return "\n".join(_table(record) for wanted in roots for record in _records(wanted, seen))


def _records(wanted: Type, seen: dict[str, Record]) -> Iterator[Record]:
    match wanted:
        case Record() if wanted.title not in seen:
            seen[wanted.title] = wanted
            yield wanted
            for key in wanted.keys:
                yield from _records(key.type, seen)
        case Many():
            yield from _records(wanted.of, seen)
        case Named():
            yield from _records(wanted.value, seen)


def _table(record: Record) -> str:
    rows = "".join(_row(key) for key in record.keys)
    together = ""
    if record.together:
        unless = " or ".join(f"`{key}: {value}`" for key, value in record.together.unless)
        held = " and ".join(f"`{key}`" for key in record.together.keys)
        together = f"\n{held} stand together, unless {unless}: then neither may be there.\n"
    return f"### {record.title}\n\n{record.means}\n\n| key | takes | meaning | default |\n|---|---|---|---|\n{rows}{together}"


def _row(key: Key) -> str:
    name = f"`{key.name}`" + (" (needed)" if key.missing else "")
    means = key.means + ("" if key.carried_out else " – *not carried out yet: `not_supported`*")
    return f"| {name} | {_takes(key.type)} | {means} | {key.default} |\n"


def _takes(wanted: Type) -> str:
    match wanted:
        case Text():
            return wanted.means
        case Choice():
            return r" \| ".join(f"`{value}`" for value in wanted.values)
        case Number():
            return f"{wanted.means}, {wanted.least} to {wanted.most}"
        case Many():
            one = "one, or a list, each " if wanted.or_one else "a list, each "
            return one + ("a " if isinstance(wanted.of, Record) else "") + _takes(wanted.of)
        case Named():
            below = f", each a [{wanted.value.title}](#{wanted.value.title})" if isinstance(wanted.value, Record) else ""
            return f"`{wanted.shape}`{below}"
        case Record():
            return f"[{wanted.title}](#{wanted.title})"
    return ""


def section(title: str, table: dict[str, Code]) -> str:
    rows = "".join(
        f"| `{name}` | {' or '.join(code.severities)} | {_cell(code.meaning)} | {_cell(code.example)} | {_cell(code.accepted)} |\n"
        for name, code in table.items()
    )
    return f"## {title}\n\n| code | severity | meaning | for example | what would be accepted |\n|---|---|---|---|---|\n{rows}"


def _cell(text: str) -> str:
    """As it is written: stars and bars mean something to Markdown, but not between backticks."""
    parts = text.split("`")
    return "`".join(re.sub(r"([*|])", r"\\\1", part) if number % 2 == 0 else part for number, part in enumerate(parts))
