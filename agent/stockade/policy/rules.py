"""Network rules: a rule as written turned into a Rule, with everything checked that can be said of one rule alone."""

from __future__ import annotations

import re

from stockade.policy.addresses import range_of
from stockade.policy.document import Findings, Mapping, Node, Place
from stockade.policy.hosts import LOCALHOST, HostError, HostPattern, as_address, parse_pattern, too_broad
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.paths import PathError, allow_list, check_glob, deny_list
from stockade.policy.schema import Reader, RuleDraft

_METHOD = re.compile(r"[A-Z][A-Z0-9-]*")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, …"
_LISTS = {"allow": True, "deny": True}


def parse_rule(draft: RuleDraft, position: int, findings: Findings) -> Rule | None:
    """The rule, or None when it has an error; findings says which."""
    before = len(findings.problems)
    rule = _RuleReader(draft, findings).read(position)
    return None if any(problem.severity == "error" for problem in findings.problems[before:]) else rule


class _RuleReader:
    def __init__(self, draft: RuleDraft, findings: Findings) -> None:
        self.draft, self.findings, self.reader = draft, findings, Reader(findings)

    def read(self, position: int) -> Rule:
        node = {key: value for key, (_, value) in self.draft.keys.items()}
        tls = self.reader.choice(node["tls"], "tls", ("inspect", "passthrough")) if "tls" in node else "inspect"
        protocol = self.reader.choice(node["protocol"], "protocol", ("http", "tcp")) if "protocol" in node else "http"
        relayed = tls == "passthrough" or protocol == "tcp"
        self._levels(node, relayed)
        binary = self._names("binary", node.get("binary"))
        destination = self._destination(node.get("destination"))
        ports = self.reader.ports(node["port"]) if "port" in node else []
        if protocol == "tcp" and not ports:
            self._every_entry_has_port(destination)
        method = self._names("method", node["method"]) if "method" in node else None
        paths = self._paths(node["path"]) if "path" in node else None
        return Rule(
            name=self.draft.name,
            binary=binary,
            destination=destination,
            ports=tuple(dict.fromkeys(ports)),
            method=method,
            path=paths,
            tls="passthrough" if tls == "passthrough" else "inspect",
            protocol="tcp" if protocol == "tcp" else "http",
            why=(self.reader.text(node["why"], "why") or "") if "why" in node else "",
            position=position,
            place=self.draft.place,
        )

    def _levels(self, node: dict[str, Node], relayed: bool) -> None:
        """An HTTP rule has both method and path; a relayed one has neither, since nobody looks inside."""
        for key in ("binary", "destination"):
            if key not in node:
                self._add(self.draft.place, "missing_key", f"rule `{self.draft.name}` has no `{key}`", f"{key}: {{allow: […]}}")
        missing = [key for key in ("method", "path") if key not in node]
        if relayed and len(missing) < 2:
            key = next(key for key in ("method", "path") if key in node)
            message = f"`{key}` cannot be held in a rule that is relayed without looking inside"
            accepted = f"the rule without `{key}`, or without `tls: passthrough` and `protocol: tcp`"
            self._add(self.draft.keys[key][0].place, "contradiction", message, accepted)
        if not relayed and missing:
            what = " and ".join(f"`{key}`" for key in missing)
            message = f"rule `{self.draft.name}` has no {what}: no level is implied by another"
            accepted = "method and path both; or `tls: passthrough` or `protocol: tcp` to relay without looking inside"
            self._add(self.draft.place, "missing_level", message, accepted)

    def _names(self, level: str, node: Node | None) -> Names:
        if node is None:
            return Names(())
        lists = self._lists(level, node)
        if level == "binary":
            found = {key: self.reader.binaries(value, f"binary.{key}") for key, value in lists.items()}
        else:
            found = {key: self._methods(value, key) for key, value in lists.items()}
        return Names(tuple(found.get("allow", ())), tuple(found.get("deny", ())))

    def _methods(self, node: Node, key: str) -> list[str]:
        found = []
        for text, place in self.reader.texts(node, f"method.{key}"):
            if text == "CONNECT":
                self._add(place, "bad_method", "`CONNECT` opens a tunnel, which no rule can look into", _METHODS)
            elif not _METHOD.fullmatch(text):
                accepted = text.upper() if _METHOD.fullmatch(text.upper()) else _METHODS
                self._add(place, "bad_method", f"`{text}` is no method; methods are compared as written, in upper case", accepted)
            else:
                found.append(text)
        return found

    def _paths(self, node: Node) -> Paths:
        found: dict[str, list[str]] = {"allow": [], "deny": []}
        for key, value in self._lists("path", node).items():
            for text, place in self.reader.texts(value, f"path.{key}"):
                try:
                    check_glob(text)
                except PathError as error:
                    self._add(place, "bad_path", str(error), error.accepted)
                else:
                    found[key].append(text)
        return Paths(allow_list(found["allow"]), deny_list(found["deny"]))

    def _destination(self, node: Node | None) -> Destination:
        if node is None:
            return Destination(())
        lists = self._lists("destination", node, {**_LISTS, "addresses": True})
        addresses = self.reader.networks(lists["addresses"], "destination.addresses") if "addresses" in lists else []
        allow = self._hosts(lists.get("allow"), "allow")
        deny = self._hosts(lists.get("deny"), "deny")
        return Destination(tuple(allow), tuple(deny), tuple(addresses))

    def _hosts(self, node: Node | None, key: str) -> list[HostPattern]:
        found = []
        for text, place in self.reader.texts(node, f"destination.{key}") if node is not None else ():
            try:
                pattern = parse_pattern(text)
            except HostError as error:
                self._add(place, error.code, str(error), error.accepted)
                continue
            if key == "allow" and self._refused(pattern, place):
                continue
            if not text.isascii():
                star = "*." if pattern.kind == "below" else ""
                message = f"`{text}` is {star}{pattern.value}, which may not be the name that it looks like"
                self.findings.add(place, "idn_host", message, accepted=f"{star}{pattern.value}", severity="warning")
            found.append(pattern)
        return found

    def _refused(self, pattern: HostPattern, place: Place) -> bool:
        """What an allow list may not hold."""
        broad = too_broad(pattern)
        if broad is not None:
            self._add(place, "host_too_broad", f"`{pattern.text}` {broad}", "hosts by name, or *.example.com below one owner's domain")
            return True
        address = as_address(pattern.value) if pattern.kind == "name" else pattern.network and pattern.network.network_address
        row = range_of(address) if address else None
        if row is None or row.private:
            return False
        accepted = f"{LOCALHOST}, for a service on the host's loopback" if row.name == "loopback" else ""
        self._add(place, "address_refused", f"`{pattern.text}` is never dialled: {row}", accepted)
        return True

    def _every_entry_has_port(self, destination: Destination) -> None:
        if any(pattern.port is None and pattern.value != LOCALHOST for pattern in destination.allow):
            self._add(self.draft.place, "missing_key", f"rule `{self.draft.name}` relays tcp and names no port", "port: 5432, or host:5432")

    def _lists(self, level: str, node: Node, known: dict[str, bool] = _LISTS) -> dict[str, Node]:
        """The lists of one level. An allow list is always there: nothing is allowed by saying nothing."""
        keys = self.reader.keys(node, known, level)
        if isinstance(node, Mapping) and "allow" not in keys:
            self._add(node.place, "missing_key", f"{level} has no `allow`, so the rule allows nothing", "allow: […]")
        return {key: value for key, (_, value) in keys.items()}

    def _add(self, place: Place, code: str, message: str, accepted: str) -> None:
        self.findings.add(place, code, message, accepted=accepted)
