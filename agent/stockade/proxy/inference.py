"""A call of a language model: read, classified, routed, and its answer read back.

Owns the order (extract → classify → route → redact or translate) and what a record tells of it. What a step cannot do is never skipped: a
body nobody could read and a classifier that did not answer are decided by the policy, as findings are.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from stockade.policy import Policy
from stockade.policy.privacy import Privacy
from stockade.privacy.dictionary import Custom, Dictionary
from stockade.privacy.extract.answers import AnswerReader, Restore
from stockade.privacy.extract.body import extract, rewrite
from stockade.privacy.extract.call import Api, Call, Unknown, Unreadable
from stockade.privacy.extract.decode import decoded
from stockade.privacy.extract.recognise import leaves_nothing, recognise
from stockade.privacy.finding import Finding
from stockade.privacy.local import Translator, Untranslatable
from stockade.privacy.redact import Vault, VaultFull
from stockade.privacy.route import STRICT, NotRead, Routing, after_local_failure, route
from stockade.privacy.serve.client import Client, Failed
from stockade.privacy.settings import Settings as Detection
from stockade.proxy.apology import apology
from stockade.proxy.connection import Connection
from stockade.proxy.ladder import Head
from stockade.proxy.screen import Detail, Elsewhere, Header, Verdict, counted, versions
from stockade.types import Action, Effect, Reason

_NAME = re.compile(r"[\w.:/@+\-]{1,128}", re.ASCII)  # of a model or a tool: what is written otherwise may be anything
_NAMES = 64
_EFFECTS = {Effect.PASS: "pass", Effect.REDACT: "redact", Effect.LOCAL: "local", Effect.REFUSE: "deny"}
_HINTS = {
    Reason.PRIVACY_UNREADABLE: "send text alone, as JSON; a person may change `unreadable` in the policy",
    Reason.PRIVACY_FAILURE: "try again later: the classifier is starting or has too much to do",
    Reason.PRIVACY_CONTEXT: "send less at once: what goes to the local model goes there whole",
    Reason.PRIVACY_LOCAL_FAILURE: "try again later: the local model does not answer",
}


def detection_of(privacy: Privacy) -> Detection:
    """What the classifier is told of a policy."""
    dictionaries = tuple(Dictionary(each.name, each.category, each.terms) for each in privacy.dictionaries)
    return Detection(privacy.thresholds, dictionaries, tuple(Custom(each.name, each.pattern, each.category) for each in privacy.custom))


def lanes(call: Call) -> list[list[int]]:
    """What each role said, with what others said between left out: a value may be cut over two turns."""
    by_role: dict[str, list[int]] = {}
    for place, piece in enumerate(call.pieces):
        by_role.setdefault(piece.role, []).append(place)
    return [each for each in by_role.values() if 1 < len(each) < len(call.pieces)]


class Inference:
    """The calls of one sandbox, under one policy."""

    def __init__(self, client: Client, policy: Policy, privacy: Privacy, vault: Vault, seconds: float) -> None:
        self._client, self._policy, self._privacy, self._vault, self._seconds = client, policy, privacy, vault, seconds

    async def verdict(self, connection: Connection, head: Head, body: bytes | None) -> Verdict | None:
        """None: no inference call, or one of which nothing leaves but its head. body: None for one too long to be read."""
        assert connection.caller is not None and connection.caller.host is not None
        host, began = connection.caller.host, time.monotonic()
        api = recognise(host, head.method, head.path, self._privacy.endpoints)
        if api is None or (isinstance(api, Unknown) and leaves_nothing(api, head.headers, body if body is not None else b"x")):
            return None
        call, findings, unread = await self._look(api, head, body)
        routing = self._route(call, findings, unread, host)
        routing = replace(routing, enforced=routing.enforced and self._policy.enforced)
        detail = self._detail(call, findings, routing, api, body)
        detail["classified_us"] = int((time.monotonic() - began) * 1_000_000)
        if routing.carried_out is Effect.LOCAL:
            routing, verdict = await self._local(connection, call, findings, routing, head, body, detail, host)
            if verdict is not None:
                return verdict
        return self._here(call, findings, routing, body, detail, host, api)

    async def _look(self, api: Api | Unknown, head: Head, body: bytes | None) -> tuple[Call | None, list[list[Finding]], NotRead | None]:
        """The call and what was found in it; and what kept that from being all there is."""
        try:
            if body is None:
                raise Unreadable("too_large")
            if isinstance(api, Unknown):
                raise Unreadable("unknown_body")
            call = extract(api, head.headers, body, head.path)
        except Unreadable as problem:
            return None, [], NotRead(problem.why)
        try:
            found = await self._client.classify(call.texts, detection_of(self._privacy), seconds=self._seconds, lanes=lanes(call))
        except Failed as failure:
            return call, [], NotRead(failure.why, unreadable=False)
        hello = self._client.hello
        whole = hello is not None and not hello.missing
        return call, found, None if whole else NotRead("missing_layer", unreadable=False)

    def _route(self, call: Call | None, findings: list[list[Finding]], unread: NotRead | None, host: str) -> Routing:
        """The stricter of what was found and of what could not be."""
        answers = []
        if call is not None and (findings or unread is None):
            answers.append(route(call, findings, host, self._privacy, sandbox=self._policy.sandbox))
        if unread is not None:
            answers.append(route(unread, findings, host, self._privacy, sandbox=self._policy.sandbox))
        return max(answers, key=lambda answer: STRICT.index(_EFFECTS[answer.effect]))

    def _here(
        self,
        call: Call | None,
        findings: list[list[Finding]],
        routing: Routing,
        body: bytes | None,
        detail: Detail,
        host: str,
        api: Api | Unknown,
    ) -> Verdict:
        """Everything but a call that goes to the local model."""
        if routing.carried_out is Effect.REFUSE:
            return self._refused(routing, detail, host, api)
        made = None
        if routing.carried_out is Effect.REDACT:
            assert call is not None and body is not None
            try:
                made, taken = self._redacted(call, findings, routing, body, host)
            except (VaultFull, Unreadable):
                return self._refused(replace(routing, effect=Effect.REFUSE, reason=Reason.PRIVACY_VAULT_FULL), detail, host, api)
            detail["redacted"] = taken
        put_back = self._privacy.style in ("placeholder", "surrogate") and len(self._vault) > 0

        def restore(within_json: bool) -> Restore:
            return self._vault.stream(host, within_json=within_json) if put_back else _Kept()

        def answer(_status: int, headers: Sequence[Header]) -> _Heard:
            if isinstance(api, Unknown):
                return _Heard(None, None)
            kind, encoding = (_header(headers, name) for name in ("content-type", "content-encoding"))
            return _Heard(AnswerReader(api, kind, restore, encoding=encoding), None)

        allowed = routing.effect is not Effect.REFUSE
        return Verdict(
            routing.carried_out, routing.reason, Action.INFERENCE, allowed, routing.rule, detail=detail, body=made, answer=answer
        )

    def _redacted(self, call: Call, findings: list[list[Finding]], routing: Routing, body: bytes, host: str) -> tuple[bytes, list[str]]:
        """The body without what is held back, and how many values of which kind were taken out. Raises VaultFull, Unreadable."""
        texts: dict[int, str] = {}
        for number, (piece, found) in enumerate(zip(call.pieces, findings, strict=True)):
            made = self._vault.redact(piece.text, found, host, self._privacy.style, routing.redact)
            if made != piece.text:
                texts[number] = made
        taken = counted([[each for each in found if each.category in routing.redact] for found in findings])
        return rewrite(call, body, texts), taken

    def _refused(self, routing: Routing, detail: Detail, host: str, api: Api | Unknown) -> Verdict:
        held = ", ".join(f"{name} ({count})" for name, count in sorted(routing.categories.items()))
        why = routing.detail or (f"it holds {held}" if held else routing.reason.value)
        error = f"this request to {host} may not leave: {why}"
        hint = _HINTS.get(routing.reason, "leave that out; a person may change the routes of the policy")
        fields = {"level": "privacy", "reason": routing.reason.value, "rule": routing.rule, "categories": routing.categories, "hint": hint}
        refusal = apology(None if isinstance(api, Unknown) else api.value, f"Stockade: {error}; {hint}", fields)
        return Verdict(Effect.REFUSE, routing.reason, Action.INFERENCE, False, routing.rule, error, hint, detail=detail, refusal=refusal)

    async def _local(
        self,
        connection: Connection,
        call: Call | None,
        findings: list[list[Finding]],
        routing: Routing,
        head: Head,
        body: bytes | None,
        detail: Detail,
        host: str,
    ) -> tuple[Routing, Verdict | None]:
        """The call as the local model is asked it; or, where it cannot be, what becomes of it then."""
        local = self._privacy.local
        assert local is not None
        why = "the local model is asked by nobody who could not read the call"
        if call is not None and body is not None:
            try:
                where = await connection.agent.local(connection.served.sandbox, self._policy.generation)
                translator = Translator(call.api, decoded(body, call.encodings), local, api_key=where.key or "")
            except (Untranslatable, Unreadable, ConnectionError) as problem:
                why = str(problem)
            else:
                why = where.refused or ""
        if why:
            detail["local_failure"] = why[:256]
            return replace(after_local_failure(routing, self._privacy, host), enforced=routing.enforced, detail=why), None
        url = urlsplit(local.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        named = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        outgoing = translator.outgoing
        headers = (("host", f"{named}:{port}"), *outgoing.headers, ("connection", "close"))
        detail |= {"local_model": translator.model, "local_host": f"{named}:{port}"}
        elsewhere = Elsewhere(url.hostname or "", port, url.scheme == "https", where.addresses, outgoing.path)

        def answer(_status: int, _headers: Sequence[Header]) -> _Heard:
            return _Heard(AnswerReader(translator.api, translator.content_type, lambda _within_json: _Kept()), translator)

        return routing, Verdict(
            Effect.LOCAL,
            routing.reason,
            Action.INFERENCE,
            rule=routing.rule,
            detail=detail,
            body=outgoing.body,
            headers=headers,
            elsewhere=elsewhere,
            answer=answer,
        )

    def _detail(self, call: Call | None, findings: list[list[Finding]], routing: Routing, api: Api | Unknown, body: bytes | None) -> Detail:
        hello = self._client.hello
        detail: Detail = {"api": "unknown" if isinstance(api, Unknown) else api.value, "categories": counted(findings)}
        if hello is not None:
            detail |= {
                "detectors": versions(hello.detectors),
                "provider": hello.provider or "none",
                "classifier_sha256": hello.model or "none",
            }
        if call is not None:
            detail |= {"model": _shown(call.model or ""), "tools": [_shown(name) for name in call.tools[:_NAMES]]}
        if body is not None:
            detail["prompt_sha256"] = hashlib.sha256(body).hexdigest()
        if routing.residency is not None:
            detail["residency"] = routing.residency
        if routing.detail:
            detail["why"] = routing.detail[:256]
        if not routing.enforced:
            detail["would"] = routing.effect.value
        return detail


class _Kept:
    """Nothing was taken out, so nothing is put back."""

    def feed(self, piece: str) -> str:
        return piece

    def flush(self) -> str:
        return ""


class _Heard:
    """One answer, of the cloud's or of the local model's. reader: None for an API that nobody here reads."""

    def __init__(self, reader: AnswerReader | None, translator: Translator | None) -> None:
        self._reader, self._translator, self._digest = reader, translator, hashlib.sha256()
        self._began, self._over = time.monotonic(), False

    @property
    def content_type(self) -> str | None:
        return self._translator.content_type if self._translator is not None else None

    def feed(self, data: bytes) -> bytes:
        return self._read(data if self._translator is None else self._translator.feed(data))

    def end(self) -> bytes:
        if self._over:
            return b""
        self._over = True
        rest = self._read(self._translator.end()) if self._translator is not None else b""
        return rest + (self._reader.end() if self._reader is not None else b"")

    def _read(self, data: bytes) -> bytes:
        self._digest.update(data)
        return self._reader.feed(data) if self._reader is not None else data

    def said(self) -> Detail:
        """answer_sha256: of the octets before anything was put back into them."""
        detail: Detail = {"answer_sha256": self._digest.hexdigest(), "answered_ms": int((time.monotonic() - self._began) * 1000)}
        if self._reader is not None:
            detail["answer_tools"] = [_shown(name) for name in self._reader.tools]
            if self._reader.unreadable is not None:
                detail["answer_unreadable"] = self._reader.unreadable
        return detail


def _shown(name: str) -> str:
    return name if _NAME.fullmatch(name) else "?"


def _header(headers: Sequence[Header], wanted: str) -> str:
    return next((value.lower() for name, value in headers if name.lower() == wanted), "")
