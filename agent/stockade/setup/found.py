"""What is on this machine that a first policy is about: agents, GPUs, servers of models, and what the project is made of.

Looks and asks, changes nothing. What cannot be told is taken for absent: a policy that speaks of too little refuses, which is seen at once.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS = 2.0  # a server on the same machine, or nvidia-smi, answers before that
LIST = 1 << 20  # octets of a server's list of models
_NAME = re.compile(r"[\w.:/@+\-]{1,128}", re.ASCII)  # of a model, as the router takes it
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that Stockade ships a preset for. name: its family; preset: its model's; key: the variable it reads its credential from."""

    name: str
    title: str
    preset: str
    key: str
    starts: tuple[str, ...] = ()  # beside what every agent's session needs


AGENTS = (
    Agent("claude", "Claude Code", "anthropic", "ANTHROPIC_API_KEY", ("ripgrep",)),
    Agent("codex", "Codex", "openai", "OPENAI_API_KEY"),
    Agent("gemini", "Gemini CLI", "gemini", "GEMINI_API_KEY"),
)


@dataclass(frozen=True, slots=True)
class Installed:
    """An agent and where its program is. shown: a sandbox sees it there without a `--bind`."""

    agent: Agent
    path: Path
    shown: bool


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    mebibytes: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server of models on the host's loopback. api: as `privacy.local` has it; preset: that lets an agent use it."""

    api: str
    port: int
    preset: str
    models: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A Nemotron that a GPU has room for. mebibytes: what its weights and a useful context take."""

    model: str
    mebibytes: int
    how: str


# Largest first. Sizes are those of the published weights at the precision named, and a quarter for the context.
NEMOTRON = (
    Proposal("nemotron-3-super (120B, 12B active)", 96_000, "vLLM or NIM on port 8000, with FP8 or NVFP4 weights"),
    Proposal("nemotron-3-nano:30b (30B, 3B active)", 30_000, "ollama pull nemotron-3-nano:30b"),
    Proposal("nemotron-mini (4B)", 4_000, "ollama pull nemotron-mini"),
)

_MARKS: Mapping[str, tuple[str, ...]] = {  # preset: files of a project that needs it
    "pypi": ("pyproject.toml", "requirements.txt", "setup.py", "uv.lock", "poetry.lock"),
    "npm": ("package.json",),
    "cargo": ("Cargo.toml",),
    "go-modules": ("go.mod",),
    "conda": ("environment.yml", "environment.yaml"),
}
_FORGES = {"github.com": "github", "gitlab.com": "gitlab"}


def installed(person: str | None = None) -> list[Installed]:
    """Agents in the system's directories, and in those of the person who asked through sudo."""
    places = [*os.environ.get("PATH", "").split(":"), *_SYSTEM.split(":"), *map(str, _own(person))]
    found = []
    for agent in AGENTS:
        path = shutil.which(agent.name, path=":".join(places))
        if path is not None:
            where = Path(path)
            shown = all(place.is_relative_to("/usr") or place.is_relative_to("/bin") for place in (where, where.resolve()))
            found.append(Installed(agent, where, shown))
    return found


def _own(person: str | None) -> Iterator[Path]:
    """Where a person's own programs are. person: None is whoever called sudo."""
    name = person or os.environ.get("SUDO_USER")
    try:
        home = Path(pwd.getpwnam(name).pw_dir) if name else Path.home()
    except (KeyError, RuntimeError):
        return
    yield from (home / ".local/bin", home / ".npm-global/bin", home / "bin", home / ".claude/local")
    yield from sorted(home.glob(".nvm/versions/node/*/bin"))


def gpus() -> list[Gpu]:
    """NVIDIA's, as nvidia-smi tells of them."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5 * SECONDS, check=True).stdout
        return [Gpu(name.strip(), int(size)) for name, _, size in (line.rpartition(",") for line in said.splitlines() if line.strip())]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def proposal(gpus: list[Gpu]) -> Proposal | None:
    """The largest that one of them has room for."""
    room = max((gpu.mebibytes for gpu in gpus), default=0)
    return next((each for each in NEMOTRON if each.mebibytes <= room), None)


def servers() -> list[Server]:
    """Ollama on 11434, and whatever speaks OpenAI's API on 8000: vLLM, NIM."""
    found = []
    tags = _models("http://127.0.0.1:11434/api/tags", "models", "name")
    if tags is not None:
        found.append(Server("ollama", 11434, "ollama-local", tags))
    listed = _models("http://127.0.0.1:8000/v1/models", "data", "id")
    if listed is not None:
        found.append(Server("openai", 8000, "vllm-local", listed))
    return found


def _models(url: str, many: str, name: str) -> tuple[str, ...] | None:
    """What a server lists; None when nobody answers, or answers something else.

    Anybody on the machine may listen there, and root reads it on a terminal: an endless list is cut short, a name that is none left out.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=SECONDS) as answer:
            listed = json.loads(answer.read(LIST))[many]
            return tuple(each[name] for each in listed if _NAME.fullmatch(each[name]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, http.client.HTTPException):
        return None


def presets_of(project: Path) -> list[str]:
    """What the project is made of, and where its sources are kept."""
    found = [preset for preset, files in _MARKS.items() if any((project / file).is_file() for file in files)]
    try:
        kept = (project / ".git/config").read_text(errors="replace")
    except OSError:
        kept = ""
    return found + [preset for host, preset in _FORGES.items() if f"{host}/" in kept or f"@{host}:" in kept]
