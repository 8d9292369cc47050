"""Privacy sections as somebody may write them: small enough that routes, labels and calls of two of them meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

CATEGORIES = ("pii.person", "pii.staff", "phi.clinical", "credential.key", "ip.project", "financial.iban")
HOSTS = ("api.example.com", "eu.example.com", "*.example.com", "llm.example.org")
MODELS = ("gpt-5", "gpt-*", "*-mini")
SANDBOXES = ("a", "a*", "b")
LABELS = ("EU", "US", "local")
THEN = ("pass", "redact", "local", "deny")

patterns = st.sampled_from([*CATEGORIES, "pii.*", "phi.*", "financial.*", "*"])


def _some(values: Any, most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=most, unique=True)


routes = st.fixed_dictionaries(
    {"when": _some(patterns), "then": st.sampled_from(THEN)},
    optional={"model": st.sampled_from(MODELS), "endpoint": st.sampled_from(HOSTS), "sandbox": st.sampled_from(SANDBOXES)},
)
local = st.fixed_dictionaries(
    {"url": st.sampled_from(["http://localhost:11434", "https://llm.example.org/v1", "http://[::1]:9000"]), "model": st.just("nemotron")},
    optional={
        "api": st.sampled_from(["ollama", "openai"]),
        "context": st.integers(1, 10_000),
        "models": st.dictionaries(st.sampled_from(MODELS), st.sampled_from(["small", "large"]), min_size=1),
        "api_key_env": st.just("KEY"),
    },
)
detect = st.fixed_dictionaries(
    {},
    optional={
        "thresholds": st.dictionaries(patterns, st.sampled_from([0, 0.3, 0.5, 0.95, 1]), min_size=1),
        "custom": st.just([{"name": "wards", "pattern": "W-[0-9]+", "category": "phi.ward"}]),
    },
)
sections = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["enforce", "audit"]),
        "endpoints": _some(st.sampled_from(HOSTS)),
        "detect": detect,
        "routes": st.lists(routes, min_size=1, max_size=4),
        "redact": st.fixed_dictionaries({"style": st.sampled_from(["mask", "hash", "surrogate"])}, optional={"ttl": st.integers(1, 9000)}),
        "local": local,
        "residency": st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(LABELS), min_size=1),
        "require_residency": st.dictionaries(patterns, _some(st.sampled_from(LABELS)), min_size=1, max_size=2),
        "unreadable": st.sampled_from(["deny", "local", "pass"]),
        "on_failure": st.sampled_from(["deny", "local", "pass"]),
        "on_local_failure": st.sampled_from(["deny", "redact"]),
    },
)
calls = st.tuples(
    st.lists(st.sampled_from([*CATEGORIES, "ip.document"]), min_size=1, max_size=1),
    st.sampled_from([None, "gpt-5", "gpt-5-mini", "claude-mini", "claude"]),
    st.sampled_from(["api.example.com", "eu.example.com", "x.example.com", "llm.example.org", "elsewhere.example.net"]),
    st.sampled_from(["", "a", "ab", "b"]),
)
"""Categories found, model asked for, host, sandbox."""
