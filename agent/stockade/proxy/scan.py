"""`scan` of a rule: what a request that is no inference call may not carry, in its target, its headers, its body and its messages.

Decides by categories alone, and by `on_found`: refuse, or mask what was found. What cannot be read is decided by the policy's `unreadable`,
and where it has none, denied.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, unquote_plus

from stockade.privacy.extract.call import Unreadable
from stockade.privacy.extract.decode import decoded, encodings
from stockade.privacy.finding import Finding
from stockade.privacy.redact import MASK, masked
from stockade.privacy.serve.client import Client, Failed
from stockade.privacy.settings import Settings
from stockade.proxy.heads import CANARY, Part, Trust, apart, counting, formed, of_target, parts, redacted_headers
from stockade.proxy.ladder import Head
from stockade.proxy.screen import Detail, Header, Verdict, counted, covered, versions
from stockade.types import Action, Effect, Reason

_PATTERNS_TELL = ("credential.*", "ip.*", "financial.card", "financial.iban", "financial.crypto")  # categories that need no model


class Scan:
    """One rule's `scan` at work. redact: what was found is taken out where that can be, but for a canary. unreadable: deny or pass.
    enforced: False lets through what was found, and records it.
    """

    def __init__(
        self,
        client: Client,
        categories: Sequence[str],
        settings: Settings,
        *,
        redact: bool,
        unreadable: str,
        seconds: float,
        enforced: bool,
    ) -> None:
        self._client, self._categories, self._settings = client, (*categories, CANARY), settings
        self._redact, self._unreadable, self._seconds, self._enforced = redact, unreadable, seconds, enforced

    async def request(self, head: Head, body: bytes | None) -> Verdict | None:
        """What becomes of a request; None: it passes, and nothing is to be said of it. body: None for one too long to be read."""
        of_head = parts(head)
        try:
            text = readable(head.headers, body)
        except Unreadable as problem:
            if self._unreadable != "pass":
                return self._unread("what this request carries cannot be read, and its rule has it read", problem.why)
            text = ""
        return await self._judge(of_head, text, lambda found: self._rewritten(head, of_head, text, found, body or b""))

    async def message(self, content: bytes, before: bytes) -> Verdict | None:
        """The same of a message on a WebSocket. before: the end of what was said there earlier: a value may be cut, and so may a letter."""
        earlier, begun = _letters(_from_a_letter(before), "replace")
        try:
            try:
                text, rest = _letters(begun + content)
            except UnicodeDecodeError:
                begun = b""  # what was begun there was no letter
                text, rest = _letters(content)
        except UnicodeDecodeError:
            return None if self._unreadable == "pass" else self._unread("a message that is no text", "encoding")

        def rewritten(found: list[list[Finding]]) -> Rewritten:
            made = _same_form(text, masked(text, found[-1])).encode() + rest
            if not made.startswith(begun):
                raise Fixed("the beginning of one of its letters was sent before")
            return Rewritten(made[len(begun) :])

        return await self._judge([], text, rewritten, earlier)

    async def _judge(
        self, of_head: list[Part], text: str, rewrite: Callable[[list[list[Finding]]], Rewritten], before: str = ""
    ) -> Verdict | None:
        texts = [*(part.text for part in of_head), *([before] if before else []), text]
        try:
            words = range(len(texts)) if before else ()
            forms, alone = formed(of_head), apart(of_head)
            found = await self._client.classify(texts, self._settings, seconds=self._seconds, formed=forms, apart=alone, spoken=words)
        except Failed as failure:
            return self._refused(Reason.PRIVACY_FAILURE, "nobody could look at what this request carries", {"failure": failure.why})
        hello = self._client.hello
        if hello is None or (
            hello.missing and not all(covered(category.removesuffix("*") + "x", _PATTERNS_TELL) for category in self._categories)
        ):
            return self._refused(Reason.PRIVACY_FAILURE, "a part of the classifier is missing", {"failure": "missing_layer"})
        found = [*counting(of_head, found[: len(of_head)]), found[-1]]
        findings = [[each for each in of_text if covered(each.category, self._categories)] for of_text in found]
        if not any(findings):
            return None
        detail: Detail = {"categories": counted(findings), "detectors": versions(hello.detectors)}
        if hello.model is not None:
            detail |= {"model": hello.model, "provider": hello.provider or ""}
        if canaries := _canaries(findings):
            detail["canaries"] = canaries
        unsaid = of_target(of_head, findings[:-1])
        why = f"this request carries {', '.join(counted(findings))}, which its rule does not let out"
        if self._redact and not canaries:
            try:
                made = rewrite(findings)
            except Fixed as fixed:
                why = f"{why}: {fixed}"
            else:
                detail["redacted"] = counted(findings)
                return self._redacted(made, detail, unsaid)
        return replace(self._refused(Reason.SCAN_FOUND, why, detail), unsaid=unsaid)

    def _rewritten(self, head: Head, of_head: list[Part], text: str, findings: list[list[Finding]], body: bytes) -> Rewritten:
        """Raises Fixed."""
        headers: dict[int, str | None] = {}
        taken: list[str] = []
        for part, found in zip(of_head, findings[:-1], strict=True):
            if part.header is None:
                taken += [part.text[each.start : each.end] for each in found]
            elif found:
                if part.trust in (Trust.SECRET, Trust.SPOKEN):
                    raise Fixed("a credential cannot be sent in part")
                name = head.headers[part.header][0]
                in_name = any(each.start < len(name) for each in found)
                headers[part.header] = None if in_name else masked(part.text, found)[len(name) + 2 :]
        made = _same_form(text, masked(text, findings[-1])) if findings[-1] else None
        encoding = "utf-16" if made is not None and _utf16(head.headers, body) else "utf-8"
        return Rewritten(
            made.encode(encoding) if made is not None else None,
            redacted_headers(head, headers) if headers else None,
            without(head.path, taken) if taken else None,
        )

    def _unread(self, error: str, why: str) -> Verdict:
        return self._refused(Reason.SCAN_UNREADABLE, error, {"unreadable": why})

    def _redacted(self, made: Rewritten, detail: Detail, unsaid: tuple[str, ...]) -> Verdict:
        if not self._enforced:
            return Verdict(Effect.PASS, Reason.SCAN_FOUND, Action.HTTP, detail=detail | {"would": "redact"}, unsaid=unsaid)
        more = {"body": made.body, "headers": made.headers, "target": made.target}
        return Verdict(Effect.REDACT, Reason.SCAN_FOUND, Action.HTTP, detail=detail, unsaid=unsaid, **more)  # type: ignore[arg-type]

    def _refused(self, reason: Reason, error: str, detail: Detail) -> Verdict:
        effect = Effect.REFUSE if self._enforced else Effect.PASS
        hint = "send it without; a person may change `scan` of the rule"
        return Verdict(effect, reason, Action.HTTP, allowed=False, error=error, hint=hint, detail=detail)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What goes out instead; None leaves a part as it is."""

    body: bytes | None
    headers: tuple[Header, ...] | None = None
    target: str | None = None


class Fixed(Exception):
    """What was found stands where it cannot be taken out."""


def without(target: str, values: Sequence[str]) -> str:
    """A path and query with every parameter masked that holds one of the values. Raises Fixed for one that stands elsewhere: another path
    is another request.
    """
    path, asked, query = target.partition("?")
    left = set(values)
    kept = []
    for each in query.split("&"):
        readings = (unquote_plus(each), unquote(each))
        held = {value for value in values if any(value in reading for reading in readings)}
        left -= held
        name, equals, _ = each.partition("=")
        in_name = any(value in reading for value in held for reading in (unquote_plus(name), unquote(name)))
        kept.append(each if not held else f"{name}={MASK}" if equals and not in_name else MASK)
    if left or any(value in reading for value in values for reading in (unquote(path), unquote_plus(path))):
        raise Fixed("it stands in the path, or over several parameters of the query")
    return f"{path}{asked}{'&'.join(kept)}"


def _letters(data: bytes, errors: str = "strict") -> tuple[str, bytes]:
    """Octets as text, and the beginning of a letter that ends them. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    return decoder.decode(data), decoder.getstate()[0]


def _from_a_letter(data: bytes) -> bytes:
    """Without the end of a letter that begins them."""
    return data[next((at for at, octet in enumerate(data[:3]) if octet & 0xC0 != 0x80), min(3, len(data))) :]


def _same_form(text: str, made: str) -> str:
    """Raises Fixed where JSON would be none any more: a number has no room for a mask."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return made
    try:
        json.loads(made)
    except (ValueError, RecursionError):
        raise Fixed("without it the body is no JSON any more") from None
    return made


def _utf16(headers: Sequence[Header], body: bytes) -> bool:
    return decoded(body, encodings(headers)).startswith((b"\xff\xfe", b"\xfe\xff"))


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
