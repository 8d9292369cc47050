"""Hosts: how a name or address is spelt once and for all, and which of them an entry of a policy covers.

A host arrives in many spellings (case, trailing dot, IDN, `2130706433` for 127.0.0.1). All of them become one before anything is compared,
so that two parts of Stockade never disagree about where a request goes.
"""

from __future__ import annotations

import functools
import importlib.resources
import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

import idna

from stockade.policy.compact import compact
from stockade.policy.neighbour import PREFIX, host_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCALHOST = "localhost"

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # with `_`: service names and container hosts use it
_PORT = re.compile(r"[0-9]{1,5}")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")


def normalise_host(text: str) -> str:
    """The one spelling of a host: lower case, IDNA A-labels, no trailing dot, an IP address in canonical form without brackets.

    IPv4 is read in every notation inet_aton knows (decimal, hex, octal, short), as the WHATWG URL standard's host parser does; a v4-mapped
    IPv6 address is its IPv4 address, which is what the kernel would dial. Raises ValueError for what is no host.
    """
    if text.startswith("[") or ":" in text:
        return _ipv6(text)
    host = text.lower() if text.isascii() else _uts46(text)
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return str(_ipv4(labels))
    if len(host) > 253:
        raise ValueError(f"a host has at most 253 characters, not {len(host)}")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} is no part of a host name")
    return host


def _uts46(text: str) -> str:
    """Maps full-width forms and the other dots of UTS 46 first: what looks like an address must be read as one."""
    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        return mapped if mapped.isascii() else idna.encode(mapped).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{text!r} is no host name: {error}") from None


def _ipv6(text: str) -> str:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in inner:
        raise ValueError(f"{text!r} has a zone id")
    address = ipaddress.IPv6Address(inner)
    return str(address.ipv4_mapped or address)


def _ipv4(parts: list[str]) -> ipaddress.IPv4Address:
    if len(parts) > 4 or not all(_NUMERIC.fullmatch(part) for part in parts):
        raise ValueError(f"{'.'.join(parts)!r} ends in a number but is no IPv4 address")
    numbers = [_number(part) for part in parts]
    *heads, last = numbers
    if any(head > 255 for head in heads) or last >= 256 ** (5 - len(numbers)):
        raise ValueError(f"{'.'.join(parts)!r} is out of range for an IPv4 address")
    return ipaddress.IPv4Address(sum(head << (24 - 8 * i) for i, head in enumerate(heads)) + last)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text.startswith("0") else int(text)


def as_address(host: str) -> Address | None:
    """The address a normalised host spells, None for a name."""
    if ":" not in host and not host[-1:].isdigit():
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@compact()
@dataclass(frozen=True, slots=True)
class HostPattern:
    """One entry of a destination list.

    kind: `name` (one host, or one address), `below` (`*.example.com`: one or more labels, never example.com itself; value holds the part
    below the star), `network` (a CIDR) or `any` (`*`, in deny lists only). port: the entry's own, None when the rule's ports count.
    """

    text: str
    kind: Literal["name", "below", "network", "any"]
    value: str
    port: int | None = None
    network: Network | None = None

    def matches(self, host: str) -> bool:
        """host is normalised."""
        if self.kind == "name":
            return host == self.value
        if self.kind == "below":
            return host.endswith("." + self.value)
        if self.kind == "any":
            return True
        address = as_address(host)
        return address is not None and self.network is not None and address in self.network

    def overlaps(self, other: HostPattern) -> bool:
        """Whether some host is matched by both."""
        if self.kind == "any" or other.kind == "any":
            return True
        if self.network is not None and other.network is not None:
            return self.network.version == other.network.version and self.network.overlaps(other.network)
        if self.kind == other.kind == "below":
            a, b = "." + self.value, "." + other.value
            return a.endswith(b) or b.endswith(a)
        if self.kind == "name":
            return other.matches(self.value)
        return other.kind == "name" and self.matches(other.value)


class HostError(ValueError):
    """A destination entry that cannot be read. code and accepted go into the Problem."""

    def __init__(self, code: str, message: str, accepted: str) -> None:
        super().__init__(message)
        self.code, self.accepted = code, accepted


_FORMS = "api.example.com, *.example.com, 10.1.2.0/24, 10.1.2.3, host:8443, localhost, sandbox:NAME"
_SANDBOXES = "sandbox:db, sandbox:db:5432: lower case, digits, `.`, `_`, `-`; at most 63"


def parse_pattern(text: str) -> HostPattern:
    """One destination entry as written. Raises HostError."""
    if not text or text != text.strip():
        raise HostError("bad_host", "a destination is not empty and has no spaces around it", _FORMS)
    if text.startswith(PREFIX):
        return _sandbox(text)
    network = _cidr(text)
    if network is not None:
        return HostPattern(text, "network", str(network), network=network)
    if "://" in text:
        raise HostError("host_has_url", f"`{text}` is a URL; a destination is a host", f"{_host_of_url(text)}, with the path under `path:`")
    if "/" in text:
        host, _, path = text.partition("/")
        raise HostError("host_has_path", f"`{text}` has a path; a destination is a host", f"{host}, with `/{path}` under `path:`")
    bare, port = _split_port(text)
    if bare == "*":
        return HostPattern(text, "any", "*", port)
    star = bare.startswith("*.")
    name = bare.removeprefix("*.")
    if "*" in name:
        raise HostError("bad_wildcard", f"`{text}`: a star stands for whole labels at the front, once", "*.example.com")
    try:
        host = normalise_host(name)
    except ValueError as error:
        raise HostError("bad_host", f"`{text}` is no host: {error}", _FORMS) from None
    if star and as_address(host) is not None:
        raise HostError("bad_wildcard", f"`{text}`: addresses are covered by a CIDR, not by a star", "10.1.2.0/24")
    return HostPattern(text, "below" if star else "name", host, port)


def _sandbox(text: str) -> HostPattern:
    name = text.removeprefix(PREFIX)
    if _PORT.fullmatch(name):
        message = f"`{text}` may be port {name} of a host called `sandbox`, or a sandbox called `{name}`"
        raise HostError("bad_sandbox", message, f"a sandbox with a letter in its name; or the host `sandbox`, with `port: [{name}]`")
    bare, port = _split_port(name)
    try:
        return HostPattern(text, "name", host_of(bare), port)
    except ValueError as error:
        raise HostError("bad_sandbox", str(error), _SANDBOXES) from None


def _cidr(text: str) -> Network | None:
    head, slash, prefix = text.partition("/")
    if not slash or as_address(head) is None:
        return None
    try:
        network = _unmapped(ipaddress.ip_network(text, strict=False))
    except ValueError:
        if not prefix.isdigit():
            return None
        raise HostError("bad_host", f"`{text}` is no CIDR", "10.1.2.0/24, fd00:1::/64") from None
    if not prefix.isdigit():
        raise HostError("bad_host", f"`{text}` has a mask; a CIDR has the length of its prefix", str(network))
    if _unmapped_address(head) != network.network_address:
        raise HostError("bad_host", f"`{text}` has bits set below its prefix", str(network))
    return network


def _unmapped(network: Network) -> Network:
    """A range of v4-mapped addresses is its IPv4 range, as `normalise_host` has it for one address: otherwise it would match nothing."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 else None
    return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def _unmapped_address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _split_port(text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and not text.startswith("["):
        return text, None  # an IPv6 address; with a port it needs its brackets
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    if not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        raise HostError("bad_port", f"`{port}` is no port", "1 to 65535")
    return host, int(port)


def _host_of_url(text: str) -> str:
    return text.split("://", 1)[1].split("/", 1)[0]


def too_broad(pattern: HostPattern) -> str | None:
    """Why an entry may not stand in an allow list: whoever can register a name below it would be allowed with it. None when it may."""
    if pattern.kind == "any":
        return "allows every host"
    if pattern.network is not None:
        widest = 8 if pattern.network.version == 4 else 16
        return f"is wider than /{widest}" if pattern.network.prefixlen < widest else None
    if pattern.kind == "below" and _public_suffix(pattern.value):
        return f"covers names that anybody can register: {pattern.value} is a public suffix"
    if pattern.kind == "name" and "." not in pattern.value and pattern.value in _suffixes():
        return "is a public suffix, not a host"
    return None


def strangers_below(pattern: HostPattern) -> str | None:
    """A public suffix below a wildcard, such as s3.amazonaws.com below `*.amazonaws.com`: some of what it covers is anybody's."""
    return _suffix_below().get(pattern.value) if pattern.kind == "below" else None


@functools.cache
def _suffix_below() -> dict[str, str]:
    """Domains that are no public suffixes themselves, each with one that lies below it."""
    found: dict[str, str] = {}
    for suffix in sorted(_suffixes(), key=lambda name: (len(name), name)):
        inner = suffix.removeprefix("*.")
        while "." in (inner := inner.partition(".")[2]):
            if not suffix.startswith("!"):
                found.setdefault(inner, suffix.removeprefix("*."))
    return found


@functools.cache
def _suffixes() -> frozenset[str]:
    """The rules of the public suffix list in A-labels, with those of its private section: who may register below github.io is anybody too.

    Read once, and only when a list has a wildcard or a single label: it takes 30 ms.
    """
    text = (importlib.resources.files("publicsuffixlist") / "public_suffix_list.dat").read_text("utf-8")
    rules = [line.split()[0].lower() for line in text.splitlines() if line.strip() and not line.startswith("//")]
    return frozenset(rule if rule.isascii() else _marked(rule) for rule in rules)


def _marked(rule: str) -> str:
    mark = rule[: len(rule) - len(rule.lstrip("*.!"))]
    return mark + _uts46(rule.removeprefix(mark))


def _public_suffix(name: str) -> bool:
    """Whether anybody may register below a name: it is listed, `*.` of its parent is, or everything below it is a suffix itself."""
    if "." not in name:
        return True  # listed or not: a whole top-level domain
    parent, known = name.split(".", 1)[1], _suffixes()
    return f"!{name}" not in known and not known.isdisjoint((name, f"*.{parent}", f"*.{name}"))
