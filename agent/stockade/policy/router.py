"""The privacy section: what the documents write, as one value with the place of each part. Reads the dictionaries it names; routes nothing.

Of what several documents say the stricter holds: the least threshold, the fewest labels, the strictest of the answers of their routes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stockade.policy.format.document import Findings, Listing, Node, Place, Scalar
from stockade.policy.format.document import Mapping as Keys
from stockade.policy.format.schema import Part
from stockade.policy.hosts import LOCALHOST, HostError, HostPattern, as_address, normalise_host, parse_pattern, too_broad
from stockade.policy.model import MODEL_PORTS, Rule
from stockade.policy.privacy import MOST_TERMS, Custom, Dictionary, Local, Privacy, Route

MAX_BYTES = 32 << 20  # of a dictionary: a million terms of some words
_SHOWN = 10  # unfit terms of one file that are told

Places = dict[str, Place]  # by entry
Word = Callable[[str], Part[str] | None]  # what holds of a key that has one value: the loader's


@dataclass(slots=True)
class Stated:
    """privacy: None where no document has the section, or where it has an error. places: by dotted key, then by entry.

    files: the dictionaries, each with who names it; also those that could not be read.
    """

    privacy: Privacy | None = None
    places: dict[str, Places] = field(default_factory=dict)
    files: dict[Path, Place] = field(default_factory=dict)


def parse_privacy(sections: Sequence[Node], word: Word, findings: Findings) -> Stated:
    """sections: `privacy` of every document that has it, in the order in which they count, as the schema has read it."""
    stated = Stated()
    if sections:
        before = len(findings.problems)
        privacy = _Reader([_keys(section) for section in sections], findings, stated).read(word)
        if not any(problem.severity == "error" for problem in findings.problems[before:]):
            stated.privacy = privacy
    return stated


def with_models(rules: tuple[Rule, ...], privacy: Privacy | None) -> tuple[Rule, ...]:
    """Rules on `localhost` that name no port mean the port of the policy's own model too, where that is on this machine."""
    url = urlsplit(privacy.local.url) if privacy is not None and privacy.local is not None else None
    if url is None or not _loopback(url.hostname or ""):
        return rules
    port = url.port or (443 if url.scheme == "https" else 80)
    ports = (*MODEL_PORTS, port) if port not in MODEL_PORTS else MODEL_PORTS
    named = [any(pattern.value == LOCALHOST for pattern in rule.destination.allow) for rule in rules]
    return tuple(replace(rule, models=ports) if local else rule for rule, local in zip(rules, named, strict=True))


def _loopback(host: str) -> bool:
    address = as_address(normalise_host(host))
    return host == LOCALHOST or (address is not None and address.is_loopback)


class _Reader:
    def __init__(self, sections: Sequence[dict[str, Node]], findings: Findings, stated: Stated) -> None:
        self.sections, self.findings, self.stated = sections, findings, stated
        self.detects = [_keys(section.get("detect")) for section in sections]

    def read(self, word: Word) -> Privacy:
        words = {"style": "redact.style", "ttl": "redact.ttl"} | {key: key for key in _WORDS}
        said: dict[str, Any] = {name: part.value for name, key in words.items() if (part := word(f"privacy.{key}"))}
        self.stated.places["privacy.words"] = {key: part.place for key in words.values() if (part := word(f"privacy.{key}"))}
        if "ttl" in said:
            said["ttl"] = int(said["ttl"])
        return Privacy(
            endpoints=tuple(self._endpoints()),
            thresholds=tuple(self._thresholds()),
            dictionaries=tuple(self._dictionaries()),
            custom=tuple(self._custom()),
            routes=tuple(self._routes()),
            local=self._local(),
            residency=tuple(self._residency()),
            require_residency=tuple(self._required()),
            **said,
        )

    def _endpoints(self) -> Iterator[str]:
        places = self.stated.places.setdefault("privacy.endpoints", {})
        for section in self.sections:
            for entry in _scalars(section.get("endpoints")):
                pattern = self._host(entry)
                if pattern is not None and _spelt(pattern) not in places:
                    places[_spelt(pattern)] = entry.place
                    yield _spelt(pattern)

    def _thresholds(self) -> Iterator[tuple[str, float]]:
        """A document's threshold for a family is one for each category of it, unless the document names that."""
        stated = [{key.text: value for key, value in _pairs(detect.get("thresholds"))} for detect in self.detects]
        places = self.stated.places.setdefault("privacy.detect.thresholds", {})
        for name in dict.fromkeys(name for each in stated for name in each):
            wider = (name, name.partition(".")[0] + ".*", "*")
            found = [next((each[spelt] for spelt in wider if spelt in each), None) for each in stated]
            least = min((scalar for scalar in found if scalar is not None), key=lambda scalar: float(scalar.text))
            places[name] = least.place
            yield name, float(least.text)

    def _named(self, entries: Iterator[Node], key: str, what: str) -> Iterator[tuple[dict[str, Node], Place]]:
        """Each entry but those whose name is taken, which is a finding."""
        places = self.stated.places.setdefault(key, {})
        for entry in entries:
            keys = _keys(entry)
            name = _text(keys.get("name"))
            if name and name in places:
                message = f"{what} `{name}` already stands in {places[name].path}:{places[name].line}"
                self.findings.add(entry.place, "duplicate_name", message, accepted="names that differ")
                continue
            if name:
                self._mark(key, name, keys, entry.place)
            yield keys, entry.place

    def _mark(self, key: str, name: str, keys: dict[str, Node], place: Place) -> None:
        """Where an entry is written, and each value of it: those of a list by the entry's name and their own."""
        places = self.stated.places
        places.setdefault(key, {})[name] = place
        for part, value in keys.items():
            there = places.setdefault(f"{key}.{part}", {})
            if isinstance(value, Scalar):
                there[name] = value.place
            there |= {f"{name} {scalar.text}": scalar.place for scalar in _scalars(value)}

    def _custom(self) -> Iterator[Custom]:
        for keys, _ in self._named(_entries(self.detects, "custom"), "privacy.detect.custom", "a custom detector"):
            name, pattern, category = (keys.get(key) for key in ("name", "pattern", "category"))
            if isinstance(name, Scalar) and isinstance(pattern, Scalar) and isinstance(category, Scalar):
                if why := _unfit(pattern.text):
                    message = f"RE2 does not take the pattern of `{name.text}`: {why}"
                    accepted = "RE2's syntax: no look-around, no back references"
                    self.findings.add(pattern.place, "bad_pattern", message, accepted=accepted)
                else:
                    yield Custom(name.text, pattern.text, category.text)

    def _dictionaries(self) -> Iterator[Dictionary]:
        total = 0
        for keys, _ in self._named(_entries(self.detects, "dictionaries"), "privacy.detect.dictionaries", "a dictionary"):
            name, category, file = (keys.get(key) for key in ("name", "category", "file"))
            if not (isinstance(name, Scalar) and isinstance(category, Scalar) and isinstance(file, Scalar)):
                continue
            path = Path(file.place.path).parent / file.text
            self.stated.files.setdefault(path, file.place)
            found = _terms(path, file.place, self.findings)
            if found is None:
                continue
            total += len(found[0])
            if total > MOST_TERMS:
                message = f"the dictionaries of a policy have at most {MOST_TERMS} terms in all"
                self.findings.add(file.place, "too_large", message)
                return
            yield Dictionary(name.text, category.text, *found, str(path.resolve()))

    def _routes(self) -> Iterator[Route]:
        named = list(self._named(_entries(self.sections, "routes"), "privacy.routes", "a route"))
        places = self.stated.places["privacy.routes"]
        for number, (keys, place) in enumerate(named, start=1):
            endpoint = keys.get("endpoint")
            pattern = self._host(endpoint, narrow=True) if isinstance(endpoint, Scalar) else None
            when, then = tuple(scalar.text for scalar in _scalars(keys.get("when"))), _text(keys.get("then"))
            if not when or then not in ("pass", "redact", "local", "deny") or (endpoint is not None and pattern is None):
                continue  # said already
            name = _text(keys.get("name")) or _free(f"route-{number}", places)
            if name not in places:
                self._mark("privacy.routes", name, keys, place)
            host = _spelt(pattern) if pattern else ""
            yield Route(name, when, then, host, _text(keys.get("model")), _text(keys.get("sandbox")))  # type: ignore[arg-type]

    def _local(self) -> Local | None:
        node = next((section["local"] for section in self.sections if "local" in section), None)
        if node is None:
            return None
        keys = _keys(node)
        self.stated.places["privacy.local"] = {key: value.place for key, value in keys.items()}
        self.stated.places["privacy.local.models"] = {key.text: value.place for key, value in _pairs(keys.get("models"))}
        url, model = keys.get("url"), _text(keys.get("model"))
        if not isinstance(url, Scalar) or not model or not self._reachable(url):
            return None  # said already
        numbers = {key: int(text) for key in ("context", "timeout", "parallel", "queue") if (text := _text(keys.get(key)))}
        models = tuple((key.text, value.text) for key, value in _pairs(keys.get("models")))
        api = "ollama" if _text(keys.get("api")) == "ollama" else "openai"
        return Local(url.text, model, api, models=models, api_key_env=_text(keys.get("api_key_env")), **numbers)  # type: ignore[arg-type]

    def _reachable(self, url: Scalar) -> bool:
        accepted = "http://localhost:11434, https://llm.example.com/prefix"
        try:
            parts = urlsplit(url.text)
            host = normalise_host(parts.hostname or "")
            _ = parts.port
        except ValueError as error:
            self.findings.add(url.place, "bad_url", f"the local model's URL is none: {error}", accepted=accepted)
            return False
        if "@" in parts.netloc or parts.query or parts.fragment:
            message = f"the URL of the local model on {host} has more than host, port and path"
            self.findings.add(url.place, "bad_url", message, accepted=f"{accepted}; its key by `api_key_env`")
            return False
        return True

    def _residency(self) -> list[tuple[str, str]]:
        """The most exact first: what stands for one host is not what stands for all below a name."""
        places = self.stated.places.setdefault("privacy.residency", {})
        found: dict[str, tuple[HostPattern, str]] = {}
        for section in self.sections:
            for key, value in _pairs(section.get("residency")):
                pattern = self._host(key, narrow=True)
                if pattern is None:
                    continue
                name = _spelt(pattern)
                if name in found and found[name][1] != value.text:
                    message = f"`{name}` is labelled `{found[name][1]}` in {places[name].path}:{places[name].line}"
                    self.findings.add(value.place, "contradiction", message, accepted="one label for one endpoint")
                places.setdefault(name, value.place)
                found.setdefault(name, (pattern, value.text))
        exact = sorted(found.items(), key=lambda item: (item[1][0].kind == "below", -len(item[0])))
        return [(name, label) for name, (_, label) in exact]

    def _required(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        places = self.stated.places.setdefault("privacy.require_residency", {})
        found: dict[str, tuple[str, ...]] = {}
        for section in self.sections:
            for key, value in _keys_of(section.get("require_residency")):
                labels = tuple(scalar.text for scalar in _scalars(value))
                kept = tuple(label for label in found.get(key.text, labels) if label in labels)
                if labels and not kept:
                    message = f"`{key.text}` must be processed in {' or '.join(found[key.text])}, says {places[key.text].path}"
                    message += f":{places[key.text].line}: nothing is left"
                    self.findings.add(value.place, "contradiction", message, accepted="a label that both name")
                places.setdefault(key.text, value.place)
                found.setdefault(key.text, kept)
                found[key.text] = kept or found[key.text]
        return iter(found.items())

    def _host(self, entry: Scalar, *, narrow: bool = False) -> HostPattern | None:
        """narrow: what stands for hosts that anybody may own is refused: an endpoint is trusted there."""
        accepted = "api.example.com, *.example.com, 10.1.2.3, localhost, sandbox:NAME"
        try:
            pattern = parse_pattern(entry.text)
        except HostError as error:
            self.findings.add(entry.place, error.code, str(error), accepted=error.accepted)
            return None
        if pattern.kind in ("network", "any") or pattern.port is not None:
            what = "has a port, and an endpoint is a host" if pattern.port is not None else "is no single host, nor what lies below one"
            self.findings.add(entry.place, "bad_host", f"`{entry.text}` {what}", accepted=accepted)
            return None
        if narrow and (broad := too_broad(pattern)):
            self.findings.add(entry.place, "host_too_broad", f"`{entry.text}` {broad}", accepted=accepted)
            return None
        return pattern


_WORDS = ("mode", "unreadable", "on_failure", "on_local_failure")


def _terms(path: Path, asked: Place, findings: Findings) -> tuple[tuple[str, ...], str] | None:
    """The terms of a file, and the SHA-256 of its bytes; None when it has an error."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        findings.add(asked, "unreadable", f"cannot read {path}: {error.strerror}")
        return None
    if len(data) > MAX_BYTES:
        findings.add(asked, "too_large", f"a dictionary has at most {MAX_BYTES} bytes, {path} has more")
        return None
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        findings.add(Place(str(path), line, 1), "not_utf8", f"byte 0x{data[error.start]:02x} is not UTF-8")
        return None
    terms = {term: number for number, line in enumerate(lines, start=1) if (term := line.strip())}
    unfit = [(term, number) for term, number in terms.items() if not re.search(r"\w", term)]
    for term, number in unfit[:_SHOWN]:
        findings.add(
            Place(str(path), number, 1, term), "bad_term", f"`{term}` has no letter and no digit", accepted="a word, a name, a code"
        )
    if not terms:
        findings.add(asked, "empty", f"{path} holds no term", accepted="one term on each line")
    return None if unfit or not terms else (tuple(terms), hashlib.sha256(data).hexdigest())


def _unfit(pattern: str) -> str:
    """What RE2 says against a pattern, as the classifier compiles it."""
    from stockade.privacy.classify import CUSTOM_MEMORY  # here: few policies have patterns, and nobody else needs RE2
    from stockade.privacy.patterns.subject import compiled

    try:
        compiled(pattern, memory=CUSTOM_MEMORY)
    except ValueError as error:
        return str(error)
    return ""


def _spelt(pattern: HostPattern) -> str:
    return f"*.{pattern.value}" if pattern.kind == "below" else pattern.value


def _free(name: str, taken: Mapping[str, Place]) -> str:
    while name in taken:
        name += "-"
    return name


def _keys(node: Node | None) -> dict[str, Node]:
    return {key.text: value for key, value in node} if isinstance(node, Keys) else {}


def _keys_of(node: Node | None) -> Sequence[tuple[Scalar, Node]]:
    return node.entries if isinstance(node, Keys) else ()


def _pairs(node: Node | None) -> Iterator[tuple[Scalar, Scalar]]:
    return ((key, value) for key, value in _keys_of(node) if isinstance(value, Scalar))


def _scalars(node: Node | None) -> Iterator[Scalar]:
    return (item for item in (node.items if isinstance(node, Listing) else ()) if isinstance(item, Scalar))


def _entries(documents: Sequence[dict[str, Node]], key: str) -> Iterator[Node]:
    for document in documents:
        node = document.get(key)
        yield from node.items if isinstance(node, Listing) else ()


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
