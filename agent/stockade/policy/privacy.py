"""What a policy says about inference calls, as one frozen value. Owns no parsing and no deciding: privacy/route.py does that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stockade.policy.pieces import in_order

Then = Literal["pass", "redact", "local", "deny"]
Style = Literal["placeholder", "mask", "hash", "surrogate"]
Api = Literal["openai", "ollama"]

DEFAULT_TTL = 3600  # seconds that a vault remembers a value after it was last used
MOST_TERMS = 1_000_000  # of all dictionaries
DEFAULT_CONTEXT = 8192  # tokens of a local model whose policy states none: what the smaller ones take


@dataclass(frozen=True, slots=True)
class Route:
    """when: categories, `family.*` or `*`; any of them found. endpoint, model, sandbox: glob patterns; empty: any."""

    name: str
    when: tuple[str, ...]
    then: Then
    endpoint: str = ""
    model: str = ""
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class Local:
    """The model that answers instead. models: (pattern of the model asked for, the local one), the first that fits; else `model`.

    timeout: seconds of silence, until an answer begins and while it goes on. parallel: calls that are asked at once; queue: how many more
    may wait. api_key_env: a variable of the agent's own.
    """

    url: str
    model: str
    api: Api = "openai"
    context: int = DEFAULT_CONTEXT
    models: tuple[tuple[str, str], ...] = ()
    timeout: int = 120
    parallel: int = 4
    queue: int = 16
    api_key_env: str = ""

    def named(self, asked: str | None) -> str:
        """The local model that answers in the place of one."""
        return next((name for pattern, name in self.models if asked is not None and fits(pattern, asked)), self.model)


@dataclass(frozen=True, slots=True)
class Custom:
    name: str
    pattern: str
    category: str


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A file with a term on each line, as it was when the policy was loaded. sha256: of its bytes. file: its absolute path."""

    name: str
    category: str
    terms: tuple[str, ...]
    sha256: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Privacy:
    """The whole section. routes: the policy's own, in order; DEFAULT_ROUTES stand behind them.

    thresholds, residency, require_residency: pairs in the order written.
    """

    mode: Literal["enforce", "audit"] = "enforce"
    endpoints: tuple[str, ...] = ()
    thresholds: tuple[tuple[str, float], ...] = ()
    dictionaries: tuple[Dictionary, ...] = ()
    custom: tuple[Custom, ...] = ()
    routes: tuple[Route, ...] = ()
    style: Style = "placeholder"
    ttl: int = DEFAULT_TTL
    local: Local | None = None
    residency: tuple[tuple[str, str], ...] = ()
    require_residency: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unreadable: Literal["deny", "local", "pass"] = "deny"
    on_failure: Literal["deny", "local", "pass"] = "deny"
    on_local_failure: Literal["deny", "redact"] = "deny"


DEFAULT_ROUTES = (
    Route("default:credentials", ("credential.*",), "deny"),
    Route("default:patients", ("phi.*",), "local"),
    Route("default:persons", ("pii.staff", "pii.person", "pii.contact", "pii.government", "financial.*"), "redact"),
)
"""What holds for a category that no route of the policy names. What stands in none of them passes, and is recorded."""


def fits(pattern: str, name: str) -> bool:
    """`*` is any text; letters count as equal in either case. No other character is special."""
    pieces, name = pattern.casefold().split("*"), name.casefold()
    return in_order(name, pieces) if len(pieces) > 1 else name == pieces[0]


def covers(pattern: str, category: str) -> bool:
    """Whether `pii.person`, `pii.*` or `*` stands for a category."""
    return pattern in ("*", category) or (pattern.endswith(".*") and category.startswith(pattern[:-1]))
