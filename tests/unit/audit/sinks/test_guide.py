"""Every example of docs/audit-sinks.md is read by the reader of the settings, and makes a sink."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from stockade.audit.sinks.process import made
from stockade.settings import read
from stockade.settings.spec import PRODUCTS, TYPES

GUIDE = Path(__file__).parents[4] / "docs" / "audit-sinks.md"


@pytest.mark.root
def test_the_examples_of_the_guide(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    entries = [block if block.startswith("- ") else "- " + textwrap.indent(block, "  ")[2:] for block in blocks]
    seen: set[str] = set()
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    token.chmod(0o600)
    for entry in entries:
        text = re.sub(r"(?:file:/etc/stockade/\w+|env:\w+)", f"file:{token}", re.sub(r"\n\s*ca: \S+", "", entry))
        file = tmp_path / "stockade.yaml"
        file.write_text("audit:\n  sinks:\n" + textwrap.indent(text, "    "))
        for sink in read(file).audit.sinks:
            seen |= {sink.type, sink.product}
            made(sink, tmp_path / "trail.jsonl").close()
    assert seen >= {*TYPES, *PRODUCTS}, "every type and product has its example"
