"""`scan` of a rule: what a request that is no inference call may not carry, in its target, its headers, its body and its messages.

Decides by categories alone. What cannot be read is decided by the policy's `unreadable`, and where it has none, denied.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, unquote_plus

from stockade.privacy.extract.call import Unreadable
from stockade.privacy.extract.decode import decoded, encodings
from stockade.privacy.finding import Finding
from stockade.privacy.serve.client import Client, Failed
from stockade.privacy.settings import Settings
from stockade.proxy.ladder import Head
from stockade.proxy.screen import Detail, Verdict, counted, covered, versions
from stockade.types import Action, Effect, Reason

CANARY = "credential.canary"
# What a client must send to be who it is: the credential of that very host. A canary is nobody's credential.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
# Said of every request by the client's own library, and none of it is the user's.
_PLAIN = frozenset(
    {
        "host",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "accept",
        "accept-encoding",
        "expect",
        "te",
        "upgrade",
    }
    | {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
)
_PATTERNS_TELL = ("credential.*", "ip.*", "financial.card", "financial.iban", "financial.crypto")  # categories that need no model


class Scan:
    """One rule's `scan` at work. unreadable: deny or pass. enforced: False lets through what was found, and records it."""

    def __init__(
        self, client: Client, categories: Sequence[str], settings: Settings, *, unreadable: str, seconds: float, enforced: bool
    ) -> None:
        self._client, self._categories, self._settings = client, (*categories, CANARY), settings
        self._unreadable, self._seconds, self._enforced = unreadable, seconds, enforced

    async def request(self, head: Head, body: bytes | None) -> Verdict | None:
        """What becomes of a request; None: it passes, and nothing is to be said of it. body: None for one too long to be read."""
        target = [unquote_plus(head.path), unquote(head.path)]
        plain = [f"{name}: {value}" for name, value in head.headers if name not in _PLAIN | _CREDENTIALS]
        secret = [value for name, value in head.headers if name in _CREDENTIALS]
        try:
            text = readable(head.headers, body)
        except Unreadable as problem:
            if self._unreadable != "pass":
                return self._refused(
                    Reason.SCAN_UNREADABLE,
                    "what this request carries cannot be read, and its rule has it read",
                    {"unreadable": problem.why},
                )
            text = ""
        return await self._judge([*dict.fromkeys(target), *plain, text], secret)

    async def message(self, content: bytes) -> Verdict | None:
        """The same of a message on a WebSocket."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return (
                None
                if self._unreadable == "pass"
                else self._refused(Reason.SCAN_UNREADABLE, "a message that is no text", {"unreadable": "encoding"})
            )
        return await self._judge([text], [])

    async def _judge(self, texts: list[str], secret: list[str]) -> Verdict | None:
        try:
            found = await self._client.classify(texts + secret, self._settings, seconds=self._seconds)
        except Failed as failure:
            return self._refused(Reason.PRIVACY_FAILURE, "nobody could look at what this request carries", {"failure": failure.why})
        hello = self._client.hello
        if hello is None or (
            hello.missing and not all(covered(category.removesuffix("*") + "x", _PATTERNS_TELL) for category in self._categories)
        ):
            return self._refused(Reason.PRIVACY_FAILURE, "a part of the classifier is missing", {"failure": "missing_layer"})
        findings = [[each for each in findings if covered(each.category, self._categories)] for findings in found[: len(texts)]]
        findings += [[each for each in findings if each.category == CANARY] for findings in found[len(texts) :]]
        if not any(findings):
            return None
        detail: Detail = {"categories": counted(findings), "detectors": versions(hello.detectors)}
        if hello.model is not None:
            detail |= {"model": hello.model, "provider": hello.provider or ""}
        if canaries := _canaries(findings):
            detail["canaries"] = canaries
        return self._refused(
            Reason.SCAN_FOUND, f"this request carries {', '.join(counted(findings))}, which its rule does not let out", detail
        )

    def _refused(self, reason: Reason, error: str, detail: Detail) -> Verdict:
        effect = Effect.REFUSE if self._enforced else Effect.PASS
        hint = "send it without; a person may change `scan` of the rule"
        return Verdict(effect, reason, Action.HTTP, allowed=False, error=error, hint=hint, detail=detail)


def _canaries(findings: Sequence[Sequence[Finding]]) -> list[str]:
    return sorted({each.detector.partition(":")[2] for found in findings for each in found if each.category == CANARY})


def readable(headers: Sequence[tuple[str, str]], body: bytes | None) -> str:
    """The text of a body. Raises Unreadable for what is none: an archive and an image may hold anything."""
    if body is None:
        raise Unreadable("too_large")
    if not body:
        return ""
    plain = decoded(body, encodings(headers))
    if plain.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return plain.decode("utf-16")
        except UnicodeDecodeError:
            raise Unreadable("encoding") from None
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        raise Unreadable("binary") from None
    if "\0" in text:
        raise Unreadable("binary")
    return text
