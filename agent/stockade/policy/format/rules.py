"""Network rules: a rule as written turned into a Rule, with everything checked that can be said of one rule alone.

Shapes are the schema's: what is missing here because it did not fit is a finding already, and the rule is not used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from stockade.policy.addresses import range_of
from stockade.policy.format.document import Findings, Listing, Mapping, Node, Place, Scalar
from stockade.policy.format.schema import RuleDraft
from stockade.policy.format.spec import RULE
from stockade.policy.hosts import LOCALHOST, HostError, HostPattern, Network, as_address, parse_pattern, strangers_below, too_broad
from stockade.policy.model import Destination, Names, Paths, Rule
from stockade.policy.neighbour import PREFIX
from stockade.policy.own import is_own
from stockade.policy.paths import PathError, allow_list, check_glob, deny_list


def parse_rule(draft: RuleDraft, position: int, findings: Findings) -> Rule | None:
    """The rule, or None when it has an error; findings says which."""
    before = len(findings.problems)
    rule = _RuleReader(draft, findings).read(position)
    return None if any(problem.severity == "error" for problem in findings.problems[before:]) else rule


class _RuleReader:
    def __init__(self, draft: RuleDraft, findings: Findings) -> None:
        self.draft, self.findings = draft, findings
        self.lists: dict[tuple[str, str], tuple[Scalar, ...]] = {}  # by level and key; whole keys have no second part
        for level, (_, node) in draft.keys.items():
            if isinstance(node, Mapping):
                self.lists |= {(level, key.text): _entries(value) for key, value in node}
            else:
                self.lists[level, ""] = _entries(node)

    def read(self, position: int) -> Rule:
        tls, protocol = self._word("tls"), self._word("protocol")
        self._levels()
        for level in ("binary", "method", "path"):
            self._at_odds(level)
        destination = self._destination()
        ports = tuple(int(port.text) for port in self._list("port"))
        if protocol == "tcp" and not ports:
            self._every_entry_has_port(destination)
        return Rule(
            name=self.draft.name,
            binary=self._names("binary"),
            destination=destination,
            ports=ports,
            method=self._names("method") if "method" in self.draft.keys else None,
            path=self._paths() if "path" in self.draft.keys else None,
            tls="passthrough" if tls == "passthrough" else "inspect",
            protocol="tcp" if protocol == "tcp" else "http",
            ancestors=_words(self._list("ancestors")),
            sha256=_words(self._list("sha256")),
            scan=_words(self._list("scan")),
            on_found="redact" if self._word("on_found") == "redact" else "deny",
            why=self._word("why"),
            position=position,
            place=self.draft.place,
        )

    def _word(self, key: str) -> str:
        node = self.draft.keys[key][1] if key in self.draft.keys else None
        return node.text if isinstance(node, Scalar) else ""

    def _list(self, level: str, key: str = "") -> tuple[Scalar, ...]:
        return self.lists.get((level, key), ())

    def _levels(self) -> None:
        """An HTTP rule has both method and path; a relayed one has neither, since nobody looks inside."""
        together = RULE.together
        assert together is not None
        held = [key for key in together.keys if key in self.draft.keys]
        if any(self._word(key) == value for key, value in together.unless):
            for key in (*held, *(key for key in ("scan", "on_found") if key in self.draft.keys)):
                message = f"`{key}` cannot be held in a rule that is relayed without looking inside"
                accepted = f"the rule without `{key}`, or without `tls: passthrough` and `protocol: tcp`"
                self._add(self.draft.keys[key][0].place, "contradiction", message, accepted)
        elif "on_found" in self.draft.keys and "scan" not in self.draft.keys:
            self._add(
                self.draft.keys["on_found"][0].place, "contradiction", "`on_found` without `scan`: nothing is looked for", "scan: […]"
            )
        elif len(held) < len(together.keys):
            what = " and ".join(f"`{key}`" for key in together.keys if key not in held)
            message = f"rule `{self.draft.name}` has no {what}: no level is implied by another"
            accepted = "method and path both; or `tls: passthrough` or `protocol: tcp` to relay without looking inside"
            self._add(self.draft.place, "missing_level", message, accepted)

    def _at_odds(self, level: str) -> None:
        """What one rule both allows and denies is denied, so the one who wrote it is mistaken about one of the two."""
        if not (denying := self._list(level, "deny")):
            return
        denied = {entry.text: entry.place for entry in denying}
        for entry in self._list(level, "allow"):
            if entry.text in denied:
                self._contradict(level, entry.text, denied[entry.text], entry.place)

    def _contradict(self, level: str, text: str, denied: Place, allowed: Place) -> None:
        message = f"`{text}` stands in {level}.allow too, on line {allowed.line}: a deny vetoes, so that entry allows nothing"
        self._add(denied, "contradiction", message, "the entry in one of the two lists")

    def _names(self, level: str) -> Names:
        return Names(_words(self._list(level, "allow")), _words(self._list(level, "deny")))

    def _paths(self) -> Paths:
        return Paths(allow_list(self._globs("allow")), deny_list(self._globs("deny")))

    def _globs(self, key: str) -> list[str]:
        found = []
        for entry in self._list("path", key):
            try:
                check_glob(entry.text)
            except PathError as error:
                self._add(entry.place, "bad_path", str(error), error.accepted)
            else:
                found.append(entry.text)
        return found

    def _destination(self) -> Destination:
        allow, deny = self._hosts("allow"), self._hosts("deny")
        denied = {(pattern.kind, pattern.value, pattern.port): place for pattern, place in deny}
        for pattern, place in allow:
            for port in dict.fromkeys((pattern.port, None)):  # a denied host without a port is denied on each
                if (at := denied.get((pattern.kind, pattern.value, port))) is not None:
                    self._contradict("destination", pattern.text, at, place)
        return Destination(tuple(item for item, _ in allow), tuple(item for item, _ in deny), tuple(self._networks()))

    def _networks(self) -> Iterable[Network]:
        for entry in self._list("destination", "addresses"):
            try:
                yield ipaddress.ip_network(entry.text)
            except ValueError as error:
                self._add(entry.place, "bad_network", f"`{entry.text}` is no network: {error}", "10.1.2.0/24, fd00:1::/64, 10.1.2.3")

    def _hosts(self, key: str) -> list[tuple[HostPattern, Place]]:
        found = []
        for entry in self._list("destination", key):
            text, place = entry.text, entry.place
            try:
                pattern = parse_pattern(text)
            except HostError as error:
                self._add(place, error.code, str(error), error.accepted)
                continue
            if is_own(pattern.value) and not text.startswith(PREFIX):
                message = f"`{pattern.text}` is Stockade's own: no rule allows or denies it"
                self._add(place, "own_host", message, "the hosts of others; sandbox:NAME for another sandbox")
                continue
            if key == "allow" and self._refused(pattern, place):
                continue
            if key == "deny" and _is_loopback(pattern):
                # every spelling of it is the host's loopback, as the kernel takes a connect to one
                pattern = HostPattern(text, "name", LOCALHOST, pattern.port)
            if key == "allow" and (suffix := strangers_below(pattern)) is not None:
                message = f"`{text}` covers what anybody can register below {suffix}"
                self.findings.add(place, "shared_domain", message, accepted="the hosts that are meant, by name", severity="warning")
            if not text.isascii():
                star = "*." if pattern.kind == "below" else ""
                message = f"`{text}` is {star}{pattern.value}, which may not be the name that it looks like"
                self.findings.add(place, "idn_host", message, accepted=f"{star}{pattern.value}", severity="warning")
            found.append((pattern, place))
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
            self._add(
                self.draft.place, "missing_port", f"rule `{self.draft.name}` relays tcp and names no port", "port: 5432, or host:5432"
            )

    def _add(self, place: Place, code: str, message: str, accepted: str) -> None:
        self.findings.add(place, code, message, accepted=accepted)


def _entries(node: Node) -> tuple[Scalar, ...]:
    """The words of a list that the schema has read."""
    return tuple([item for item in node.items if type(item) is Scalar]) if isinstance(node, Listing) else ()


def _words(entries: Iterable[Scalar]) -> tuple[str, ...]:
    return tuple([entry.text for entry in entries])


def _is_loopback(pattern: HostPattern) -> bool:
    address = as_address(pattern.value) if pattern.kind == "name" else pattern.network and pattern.network.network_address
    return address is not None and address.is_loopback
