"""docs/audit-reasons.md says what the program says; docs/audit.md names every action of the verb and every form."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from stockade.audit.formats import BY_NAME
from stockade.audit.formats.ecs import VERSION as ECS
from stockade.audit.formats.ocsf import VERSION as OCSF
from stockade.audit.reference import reasons_page
from stockade.cli import _parser
from stockade.cli.audit import ACTIONS

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "audit.md").read_text()
_BLOCKS = re.findall(r"```\w*\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [
    line.partition("   #")[0].removeprefix("$ ") for block in _BLOCKS for line in block.splitlines() if line.startswith("$ stockade ")
]


def test_the_page_of_reasons_is_as_the_program_has_them() -> None:
    page = DOCS / "audit-reasons.md"
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        page.write_text(reasons_page())
    assert page.read_text() == reasons_page()


def test_the_guide_names_all_of_it() -> None:
    assert not [name for name in ACTIONS if f"## {name}" not in GUIDE]
    assert not [name for name in BY_NAME if f"`{name}`" not in GUIDE]
    assert f"OCSF {OCSF}" in GUIDE and f"ECS {ECS}" in GUIDE


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_guide_are_understood(command: str) -> None:
    words = shlex.split(command.partition(" > ")[0].partition(" | ")[0])[1:]
    assert _parser(words[0]).parse_args(words).verb == "audit"
