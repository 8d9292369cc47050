"""A first policy: a file a person goes on with. It extends presets and says the rest in the fewest keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from stockade.setup.found import Agent, Server

SESSION = ("sh", "bash", "coreutils", "findutils", "diffutils", "grep", "sed", "git", "which")  # what an agent runs in a project


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody chose. agent: None for a shell. local: the server that what is sensitive goes to. router: classify calls to models."""

    project: Path
    agent: Agent | None
    presets: tuple[str, ...]
    local: Server | None = None
    model: str | None = None
    router: bool = False

    @property
    def name(self) -> str:
        return re.sub(r"[^a-z0-9-]+", "-", self.project.name.lower()).strip("-") or "project"


def policy(choices: Choices) -> str:
    """The text of the file. Deterministic, and it loads: what it is made of was found here, or is named by Stockade."""
    agent = choices.agent
    starts = [*((agent.name, *agent.starts) if agent else ()), *SESSION]
    lines = [
        "# What this project's agent may run and reach; all else is refused and recorded. Made by `stockade init`, and yours to change:",
        "# docs/policy.md has every key, `stockade policy check FILE` finds mistakes, `stockade policy show --policy FILE` the sum of it.",
        "version: 1",
        f"name: {_word(choices.name)}",
    ]
    if choices.presets:
        lines += ["extends:", *(f"  - presets/{preset}" for preset in choices.presets)]
    lines += ["exec:", "  allow:", *(f"    - {_word(name)}" for name in starts)]
    if agent is not None:
        lines += ["process:", "  env:", f"    {agent.key}: inherit      # nothing else of your environment is seen inside"]
    if choices.router:
        lines += _router(choices)
    return "\n".join(lines) + "\n"


def _router(choices: Choices) -> list[str]:
    """Without a local model nothing is held back yet: what would go there would be refused."""
    if choices.local is None:
        return [
            "privacy:",
            "  mode: audit         # calls to models are classified and recorded, and pass unchanged. `enforce` holds back what is found;",
            "                      # what concerns patients then needs a local model: docs/privacy-router.md",
        ]
    told = ["privacy:", "  local:", f"    url: {choices.local.url}", f"    api: {choices.local.api}"]
    return told + ([f"    model: {_word(choices.model)}"] if choices.model else [])


def _word(text: str) -> str:
    """One scalar of YAML, quoted where it must be."""
    return yaml.safe_dump(text, width=10_000).removesuffix("\n").removesuffix("\n...")
