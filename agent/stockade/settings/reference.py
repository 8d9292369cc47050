"""The reference: docs/settings.md, made from spec.py and codes.py. A test fails when it is stale."""

from __future__ import annotations

import re

from stockade.policy.format.reference import section, tables
from stockade.settings.codes import OWN
from stockade.settings.spec import SETTINGS


def renewed(page: str) -> str:
    """The page with its generated parts as they should be."""
    for name, text in {"keys": tables(SETTINGS), "codes": section("Problems", OWN)}.items():
        start, end = f"<!-- {name}, generated -->\n", f"<!-- end of {name} -->"
        page = re.sub(f"{start}.*?{end}", lambda found, new=f"{start}\n{text}\n{end}": new, page, flags=re.DOTALL)  # type: ignore[misc]
    return page
