"""Routes: what can only be said of the whole privacy section, and of it beside the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from stockade.policy.format.document import NOWHERE, Findings, Place
from stockade.policy.format.problems import meant
from stockade.policy.model import Rule
from stockade.policy.privacy import Privacy, Route, Then, covers, fits
from stockade.privacy.finding import CATEGORIES

LOCAL = "local"  # the label of the local model, where `residency` does not name its host
_STRICT: tuple[Then, ...] = get_args(Then)  # from the loosest on
_DOES = {"pass": "passes", "redact": "redacts", "local": "leads to the local model", "deny": "denies"}
_CONDITIONS = ("endpoint", "model", "sandbox")


@dataclass(frozen=True, slots=True)
class Examined:
    """places: by dotted key, then by entry; a category in a route by the route's name and its own."""

    privacy: Privacy
    places: Mapping[str, Mapping[str, Place]]
    findings: Findings

    def place(self, key: str, entry: str) -> Place:
        return self.places.get(f"privacy.{key}", {}).get(entry, NOWHERE)

    def warn(self, place: Place, code: str, message: str, accepted: str = "") -> None:
        self.findings.add(place, code, message, accepted=accepted, severity="warning")


def examine_routes(examined: Examined, rules: Iterable[Rule]) -> None:
    _looser(examined)
    _unreachable(examined)
    _without_local(examined)
    _unlabelled(examined)
    _unknown(examined)
    _relayed(examined, rules)


def _looser(examined: Examined) -> None:
    """The routes of a document come before those of what it extends. So they may say more strictly what those say, and not less."""
    routes = examined.privacy.routes
    documents = [examined.place("routes", route.name).path for route in routes]
    for number, route in enumerate(routes):
        later = [other for other, path in zip(routes[number + 1 :], documents[number + 1 :], strict=True) if path != documents[number]]
        for category in _known(examined.privacy, route.when) if later else ():
            if any(not _conditions(earlier) and _covers(earlier, category) for earlier in routes[:number]):
                continue  # settled before
            stricter = _stricter(route, category, later)
            if stricter is not None:
                place = examined.place("routes", stricter.name)
                message = f"route `{route.name}` {_DOES[route.then]} {category}, which `{stricter.name}` of {place.path}:{place.line}"
                message += f" {_DOES[stricter.then]}: what is extended, or given after, can only be tightened"
                accepted = f"then: {stricter.then}, or stricter; or conditions that differ"
                examined.findings.add(examined.place("routes", route.name), "looser_route", message, accepted=accepted)
                break


def _stricter(route: Route, category: str, later: Iterable[Route]) -> Route | None:
    for other in later:
        if not _covers(other, category) or _apart(route, other):
            continue
        if _STRICT.index(other.then) > _STRICT.index(route.then):
            return other
        if not _conditions(other):
            return None  # what stands behind it says nothing of that category
    return None


def _unreachable(examined: Examined) -> None:
    """A route all of whose categories an earlier one takes, whatever the request. What another document tightens so is as it was meant."""
    for number, route in enumerate(examined.privacy.routes):
        place = examined.place("routes", route.name)
        for earlier in examined.privacy.routes[:number]:
            if (
                examined.place("routes", earlier.name).path == place.path
                and all(any(_wider(pattern, name) for pattern in earlier.when) for name in route.when)
                and _applies_as_well(earlier, route)
            ):
                message = f"route `{route.name}` is never asked: `{earlier.name}` before it takes all that it is for"
                examined.warn(
                    examined.place("routes", route.name), "unreachable", message, "the narrower route first, or the policy without it"
                )
                break


def _without_local(examined: Examined) -> None:
    if examined.privacy.local is not None:
        return
    told = [
        (examined.place("routes.then", route.name), f"route `{route.name}`") for route in examined.privacy.routes if route.then == LOCAL
    ]
    told += [(examined.place("words", key), f"`{key}`") for key in ("unreadable", "on_failure") if getattr(examined.privacy, key) == LOCAL]
    for place, what in told:
        message = f"{what} leads to the local model, and the policy names none: such a request is refused"
        examined.warn(place, "no_local_model", message, "local: {url: http://localhost:11434, model: NAME}")


def _unlabelled(examined: Examined) -> None:
    """A label that nothing has keeps a category from everywhere: perhaps meant, and more often misspelt."""
    privacy = examined.privacy
    labels = {label for _, label in privacy.residency}
    host = urlsplit(privacy.local.url).hostname or "" if privacy.local else ""
    if privacy.local and not any(fits(pattern, host) for pattern, _ in privacy.residency):
        labels.add(LOCAL)
    for category, wanted in privacy.require_residency:
        for label in wanted:
            if label not in labels:
                message = f"no endpoint is labelled `{label}`, in which `{category}` may be processed{meant(label, labels)}"
                accepted = ", ".join(sorted(labels)) or "residency: {api.example.com: EU}"
                examined.warn(examined.place("require_residency", category), "unknown_label", message, accepted)


def _unknown(examined: Examined) -> None:
    """A category that nothing finds: what is written for it never happens."""
    privacy = examined.privacy
    known = _found(privacy)
    named = [(examined.place("routes.when", f"{route.name} {name}"), name) for route in privacy.routes for name in route.when]
    named += [(examined.place("detect.thresholds", name), name) for name, _ in privacy.thresholds]
    named += [(examined.place("require_residency", name), name) for name, _ in privacy.require_residency]
    for place, name in named:
        if not any(covers(name, category) for category in known):
            examined.warn(
                place,
                "unknown_category",
                f"nothing finds `{name}`{meant(name, known)}",
                "a category of docs/privacy-detectors.md, or of `detect`",
            )


def _relayed(examined: Examined, rules: Iterable[Rule]) -> None:
    privacy = examined.privacy
    if privacy.mode == "audit" or privacy.unreadable == "pass":
        return
    from stockade.privacy.extract.recognise import is_endpoint  # here: it takes as long to import as all of the policy's own modules

    for rule in rules:
        for pattern in rule.destination.allow if not rule.inspected else ():
            if pattern.kind == "name" and is_endpoint(pattern.value, privacy.endpoints):
                message = f"rule `{rule.name}` relays `{pattern.text}`, whose requests are to be read: the privacy router refuses it"
                examined.warn(rule.place, "contradiction", message, "a rule with `method` and `path`")


def _known(privacy: Privacy, when: Iterable[str]) -> Iterator[str]:
    """The categories that patterns stand for, and one more for each: what is unknown today is covered, too."""
    for pattern in when:
        yield from (category for category in _found(privacy) if covers(pattern, category))
        yield pattern


def _found(privacy: Privacy) -> list[str]:
    """Every category that is looked for."""
    return [*CATEGORIES, *(each.category for each in privacy.custom), *(each.category for each in privacy.dictionaries)]


def _covers(route: Route, category: str) -> bool:
    return any(_wider(pattern, category) for pattern in route.when)


def _wider(pattern: str, name: str) -> bool:
    """Whether a pattern stands for all that another, or a category, stands for."""
    return pattern in ("*", name) or (name != "*" and covers(pattern, name))


def _conditions(route: Route) -> bool:
    return any(getattr(route, key) for key in _CONDITIONS)


def _applies_as_well(earlier: Route, route: Route) -> bool:
    """Whether the earlier one takes every request that the other would. A call without a model fits no route on models that lets pass."""
    return all(getattr(earlier, key).casefold() in ("", getattr(route, key).casefold()) for key in _CONDITIONS) and (
        not earlier.model or earlier.then != "pass" or route.then == "pass"
    )


def _apart(one: Route, other: Route) -> bool:
    """Whether no request can fit both."""
    pairs = [(getattr(one, key), getattr(other, key)) for key in _CONDITIONS]
    return any(a and b and not fits(a, b) and not fits(b, a) and ("*" not in a or "*" not in b) for a, b in pairs)
