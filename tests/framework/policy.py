"""Policies as the tests write them: rules in the seed's form, with the parts that a test is not about left to defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

Rule = dict[str, Any]


def http(binary: str | Sequence[str], *hosts: str, methods: Sequence[str] = ("GET",), paths: Sequence[str] = ("/**",), **more: Any) -> Rule:
    """Inspected: binary, destination, method and path."""
    rule = _rule(binary, hosts, more)
    return rule | {"method": {"allow": list(methods)}, "path": {"allow": list(paths)}} | more


def relay(binary: str | Sequence[str], *hosts: str, **more: Any) -> Rule:
    """Not inspected: say `tls="passthrough"` or `protocol="tcp"`."""
    return _rule(binary, hosts, more) | more


def _rule(binary: str | Sequence[str], hosts: Sequence[str], more: Rule) -> Rule:
    binaries = [binary] if isinstance(binary, str) else list(binary)
    name = more.pop("name", f"{binaries[0].rpartition('/')[2]}-{hosts[0].partition('.')[0]}")
    return {"name": name, "binary": {"allow": binaries}, "destination": {"allow": list(hosts)}}


def bare(*rules: Rule) -> str:
    """A bare list: what may run is the rules' binaries and the command itself."""
    return yaml.safe_dump(list(rules), sort_keys=False)


def whole(*rules: Rule, allow: Sequence[str], **sections: Any) -> str:
    """A whole policy in which `allow` may run."""
    execution = {"allow": list(allow)} | sections.pop("exec", {})
    return yaml.safe_dump(
        {"version": 1, "name": "test", "exec": execution} | ({"network": list(rules)} if rules else {}) | sections, sort_keys=False
    )
