"""A call of a language model: read, classified, routed, and its answer read back.

Owns the order (extract → classify → route → redact or translate) and what a record tells of it. What a step cannot do is never skipped: a
body nobody could read and a classifier that did not answer are decided by the policy, as findings are. A call is its head, too: what was
found in a header is taken out of it, or stays behind when the local model is asked; what was found in the target cannot be taken out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stockade.policy import Policy
from stockade.policy.privacy import Local, Privacy, Style
from stockade.privacy.dictionary import Custom, Dictionary
from stockade.privacy.extract.answers import AnswerReader, Restore
from stockade.privacy.extract.body import extract, rewrite
from stockade.privacy.extract.call import Api, Call, Role, Unknown, Unreadable
from stockade.privacy.extract.decode import decoded
from stockade.privacy.extract.recognise import leaves_nothing, recognise
from stockade.privacy.finding import Finding
from stockade.privacy.local import LocalFailure, Translator, Untranslatable
from stockade.privacy.redact import Vault, VaultFull
from stockade.privacy.route import STRICT, NotRead, Routing, after_local_failure, route, tokens
from stockade.privacy.serve.client import Client, Failed
from stockade.privacy.settings import Settings as Detection
from stockade.proxy.apology import apology
from stockade.proxy.connection import Connection
from stockade.proxy.heads import Part, Trust, apart, counting, formed, of_target, parts_of_call, redacted_headers
from stockade.proxy.ladder import Head
from stockade.proxy.local import Ask, LocalModels
from stockade.proxy.screen import Detail, Header, Verdict, counted, versions
from stockade.proxy.spine import Local as Where
from stockade.types import Action, Effect, Reason

_NAME = re.compile(r"[\w.:/@+\-]{1,128}", re.ASCII)  # of a model or a tool: what is written otherwise may be anything
_NAMES = 64
_MODEL = ("model",)
_OF_THE_HOP = frozenset(
    {"connection", "upgrade", "http2-settings", "keep-alive", "proxy-connection", "te"}
)  # nobody's but this connection's
_EFFECTS = {Effect.PASS: "pass", Effect.REDACT: "redact", Effect.LOCAL: "local", Effect.REFUSE: "deny"}
_HINTS = {
    Reason.PRIVACY_UNREADABLE: "send text alone, as JSON; a person may change `unreadable` in the policy",
    Reason.PRIVACY_FAILURE: "try again later: the classifier is starting or has too much to do",
    Reason.PRIVACY_CONTEXT: "send less at once: what goes to the local model goes there whole",
    Reason.PRIVACY_LOCAL_FAILURE: "try again later, or without what is held back: the local model did not take the call",
}


def detection_of(privacy: Privacy) -> Detection:
    """What the classifier is told of a policy."""
    dictionaries = tuple(Dictionary(each.name, each.category, each.terms) for each in privacy.dictionaries)
    return Detection(privacy.thresholds, dictionaries, tuple(Custom(each.name, each.pattern, each.category) for each in privacy.custom))


def spoken(call: Call) -> list[int]:
    """What somebody said or wrote. Names of tools and keys of their arguments are no sentence that goes on."""
    return [place for place, piece in enumerate(call.pieces) if piece.role in (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.DOCUMENT)]


def lanes(call: Call) -> list[list[int]]:
    """What each role said, with what others said between left out: a value may be cut over two turns."""
    by_role: dict[str, list[int]] = {}
    for place, piece in enumerate(call.pieces):
        if piece.at != _MODEL:
            by_role.setdefault(piece.role, []).append(place)
    return [each for each in by_role.values() if 1 < len(each) < len(call.pieces)]


def alone(call: Call) -> list[int]:
    """The name of the model is read by itself: nobody goes on with it, and it stands beside the first message of nearly every call."""
    return [place for place, piece in enumerate(call.pieces) if piece.at == _MODEL]


class Inference:
    """The calls of one sandbox, under one policy."""

    def __init__(
        self, client: Client, locals_: LocalModels, policy: Policy, privacy: Privacy, vault: Vault, detection: Detection, seconds: float
    ) -> None:
        self._client, self._locals, self._policy, self._privacy = client, locals_, policy, privacy
        self._vault, self._detection, self._seconds = vault, detection, seconds

    async def verdict(self, connection: Connection, head: Head, body: bytes | None) -> Verdict | None:
        """None: no inference call, or one of which nothing leaves but its head, with nothing in that which is held back."""
        assert connection.caller is not None and connection.caller.host is not None
        host, watch = connection.caller.host, _Watch()
        api = recognise(host, head.method, head.path, self._privacy.endpoints)
        if api is None:
            return None
        seen = _Seen(api, head, body)
        seen.read()
        watch.lap("read_us")
        await self._look(seen, host)
        watch.lap("classified_us")
        routing = self._route(seen, host)
        routing = replace(routing, enforced=routing.enforced and self._policy.enforced)
        if seen.bare and routing.effect is Effect.PASS:
            return None
        detail = self._detail(seen, routing)
        if routing.carried_out is Effect.LOCAL:
            verdict = await self._local(connection, seen, routing, detail, host)
        else:
            verdict = self._here(seen, routing, detail, host)
        watch.lap("decided_us")
        return replace(verdict, detail=verdict.detail | watch.laps, unsaid=seen.unsaid)

    async def _look(self, seen: _Seen, host: str) -> None:
        """What the classifier finds in the call, head and body at once; and what was taken out before, wherever it comes again."""
        texts = [part.text for part in seen.parts]
        asked = [self._client.classify(texts, self._detection, seconds=self._seconds, formed=formed(seen.parts), apart=apart(seen.parts))]
        if seen.call is not None:  # first: what the head says is mostly known, and is told while the body is read
            orders, words, names = lanes(seen.call), spoken(seen.call), alone(seen.call)
            body = self._client.classify(seen.call.texts, self._detection, seconds=self._seconds, lanes=orders, spoken=words, apart=names)
            asked.insert(0, body)
        try:
            *of_body, of_head = await asyncio.gather(*asked)
        except Failed as failure:
            seen.findings = [[] for _ in seen.call.texts] if seen.call is not None else []
            seen.miss(NotRead(failure.why, unreadable=False))
            return
        seen.of_head = counting(seen.parts, of_head)
        if seen.call is not None:
            seen.findings = [[*found, *self._vault.known(text, found)] for text, found in zip(seen.call.texts, of_body[0], strict=True)]
        hello = self._client.hello
        if hello is None or hello.missing:
            seen.miss(NotRead("missing_layer", unreadable=False))

    def _route(self, seen: _Seen, host: str) -> Routing:
        """The strictest of what was found and of what could not be."""
        sandbox = self._policy.sandbox
        answers = [route(unread, [], host, self._privacy, sandbox=sandbox) for unread in seen.unread]
        if seen.call is not None or any(seen.of_head) or not answers:
            answers.append(route(seen.call or _NO_CALL, seen.all, host, self._privacy, sandbox=sandbox))
        return max(answers, key=lambda answer: STRICT.index(_EFFECTS[answer.effect]))

    def _here(self, seen: _Seen, routing: Routing, detail: Detail, host: str) -> Verdict:
        """Everything but a call that goes to the local model."""
        if routing.carried_out is Effect.REFUSE:
            return self._refused(routing, detail, host, seen.api)
        body, headers = None, None
        try:
            if routing.carried_out is Effect.REDACT:
                headers = self._headers(seen, routing, host)
                body = self._redacted(seen, routing.redact, host)
                detail["redacted"] = counted([[each for each in found if each.category in routing.redact] for found in seen.all])
            elif routing.enforced and seen.call is not None and any(self._vault.handed_out(text, host) for text in seen.call.texts):
                body = self._redacted(seen, frozenset(), host)  # a placeholder that was typed stands for its own letters alone
        except _Fixed as fixed:
            return self._refused(replace(routing, effect=Effect.REFUSE, detail=str(fixed)), detail, host, seen.api)
        except (VaultFull, Unreadable):
            return self._refused(replace(routing, effect=Effect.REFUSE, reason=Reason.PRIVACY_VAULT_FULL), detail, host, seen.api)
        put_back = self._privacy.style in ("placeholder", "surrogate") and len(self._vault) > 0
        api, sent = seen.api, time.monotonic()

        def restore(within_json: bool) -> Restore:
            return self._vault.stream(host, within_json=within_json) if put_back else _Kept()

        def answer(_status: int, headers: Sequence[Header]) -> _Heard:
            if isinstance(api, Unknown):
                return _Heard(None, sent)
            kind, encoding = (_header(headers, name) for name in ("content-type", "content-encoding"))
            return _Heard(AnswerReader(api, kind, restore, encoding=encoding), sent)

        effect, allowed = routing.carried_out, routing.effect is not Effect.REFUSE
        return Verdict(
            effect,
            routing.reason,
            Action.INFERENCE,
            allowed,
            routing.rule,
            detail=detail,
            body=body,
            headers=headers,
            answer=answer,
        )

    def _redacted(self, seen: _Seen, categories: frozenset[str], host: str) -> bytes | None:
        """The body without what is held back; None where nothing of it is. Raises VaultFull, Unreadable."""
        if seen.call is None or seen.body is None:
            return None
        texts: dict[int, str] = {}
        for number, (piece, found) in enumerate(zip(seen.call.pieces, seen.findings, strict=True)):
            made = self._vault.redact(piece.text, found, host, self._privacy.style, categories)
            if made != piece.text:
                texts[number] = made
        return rewrite(seen.call, seen.body, texts) if texts else None

    def _headers(self, seen: _Seen, routing: Routing, host: str) -> tuple[Header, ...] | None:
        """The headers without what is held back; a header whose very name is goes as a whole. Raises _Fixed, VaultFull."""
        made: dict[int, str | None] = {}
        for part, found in zip(seen.parts, seen.of_head, strict=True):
            held = [each for each in found if each.category in routing.redact]
            if not held:
                continue
            if part.header is None or part.trust in (Trust.SECRET, Trust.SPOKEN):
                where = "its path or its query holds" if part.header is None else "its credential holds"
                raise _Fixed(f"{where} {', '.join(counted([held]))}, and nothing can be taken out there")
            name = seen.head.headers[part.header][0]
            if any(each.start < len(name) for each in held):
                made[part.header] = None
            else:
                style: Style = "mask" if self._privacy.style == "mask" else "placeholder"  # a surrogate may have letters that no header has
                made[part.header] = self._vault.redact(part.text, held, host, style, routing.redact)[len(name) + 2 :]
        if not made:
            return None
        return redacted_headers(seen.head, made)

    def _refused(self, routing: Routing, detail: Detail, host: str, api: Api | Unknown) -> Verdict:
        held = ", ".join(f"{name} ({count})" for name, count in sorted(routing.categories.items()))
        why = routing.detail or (f"it holds {held}" if held else routing.reason.value)
        error = f"this request to {host} may not leave: {why}"
        hint = _HINTS.get(routing.reason, "leave that out; a person may change the routes of the policy")
        fields = {"level": "privacy", "reason": routing.reason.value, "rule": routing.rule, "categories": routing.categories, "hint": hint}
        refusal = apology(None if isinstance(api, Unknown) else api.value, f"Stockade: {error}; {hint}", fields)
        return Verdict(Effect.REFUSE, routing.reason, Action.INFERENCE, False, routing.rule, error, hint, detail=detail, refusal=refusal)

    async def _local(self, connection: Connection, seen: _Seen, routing: Routing, detail: Detail, host: str) -> Verdict:
        """The call as the local model is asked it; or, where it cannot be, what becomes of it then."""
        local, sent = self._privacy.local, time.monotonic()
        assert local is not None
        try:
            where = await connection.agent.local(connection.served.sandbox, self._policy.generation)
            translator = self._translated(seen, local, where)
        except (Untranslatable, Unreadable, ConnectionError) as problem:
            return self._not_local(seen, routing, detail, host, LocalFailure(str(problem)))
        server = self._locals.at(local)

        def answer(_status: int, _headers: Sequence[Header]) -> _Heard:
            return _Heard(AnswerReader(translator.api, translator.content_type, lambda _within_json: _Kept()), sent)

        return Verdict(
            Effect.LOCAL,
            routing.reason,
            Action.INFERENCE,
            rule=routing.rule,
            detail=detail | {"local_model": translator.model, "local_host": server.named},
            ask=Ask(server, where, translator, local.timeout, connection.served.meter.asked),
            otherwise=lambda failure: self._not_local(seen, routing, detail, host, failure),
            answer=answer,
        )

    def _translated(self, seen: _Seen, local: Local, where: Where) -> Translator:
        """Raises Untranslatable, Unreadable."""
        if where.refused is not None:
            raise Untranslatable(where.refused)
        if seen.call is None or seen.body is None:
            raise Untranslatable("the local model is asked by nobody who could not read the call")
        room = max(1, local.context - tokens(seen.call.texts))
        return Translator(seen.call.api, decoded(seen.body, seen.call.encodings), local, path=seen.head.path, room=room)

    def _not_local(self, seen: _Seen, routing: Routing, detail: Detail, host: str, failure: LocalFailure) -> Verdict:
        """What becomes of a call that the local model did not take. One that is too long for it goes nowhere else."""
        made = after_local_failure(routing, self._privacy, host)
        if failure.context:
            made = replace(made, effect=Effect.REFUSE, reason=Reason.PRIVACY_CONTEXT)
        made = replace(made, enforced=routing.enforced, detail=str(failure))
        verdict = self._here(seen, made, detail | {"local_failure": str(failure)[:256]}, host)
        return replace(verdict, unsaid=seen.unsaid)

    def _detail(self, seen: _Seen, routing: Routing) -> Detail:
        hello, call, body = self._client.hello, seen.call, seen.body
        detail: Detail = {"api": "unknown" if isinstance(seen.api, Unknown) else seen.api.value, "categories": counted(seen.all)}
        if any(seen.of_head):
            detail["head"] = counted(seen.of_head)
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


@dataclass(slots=True)
class _Seen:
    """One call, as far as it was read. bare: nothing of it leaves but its head. unread: what kept it from being read, or from being
    classified. of_head: what was found in each part of the head, as findings is for each text of the body.
    """

    api: Api | Unknown
    head: Head
    body: bytes | None
    call: Call | None = None
    bare: bool = False
    parts: list[Part] = field(default_factory=list)
    findings: list[list[Finding]] = field(default_factory=list)
    of_head: list[list[Finding]] = field(default_factory=list)
    unread: list[NotRead] = field(default_factory=list)

    @property
    def all(self) -> list[list[Finding]]:
        return [*self.findings, *self.of_head]

    @property
    def unsaid(self) -> tuple[str, ...]:
        return of_target(self.parts, self.of_head) if self.of_head else ()

    def miss(self, unread: NotRead) -> None:
        self.unread.append(unread)

    def read(self) -> None:
        self.parts = parts_of_call(self.head)
        if isinstance(self.api, Unknown) and leaves_nothing(self.api, self.head.headers, self.body if self.body is not None else b"x"):
            self.bare = True
            return
        try:
            if self.body is None:
                raise Unreadable("too_large")
            if isinstance(self.api, Unknown):
                raise Unreadable("unknown_body")
            self.call = extract(self.api, self.head.headers, self.body, self.head.path)
        except Unreadable as problem:
            self.miss(NotRead(problem.why))


_NO_CALL = Call(Api.OPENAI_CHAT, None, False, (), ())  # whose head is all there is, or all that was read


class _Fixed(Exception):
    """What is held back stands where nothing can be taken out."""


class _Watch:
    """Microseconds of each step, one after the other."""

    def __init__(self) -> None:
        self.laps: Detail = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = int((now - self._last) * 1_000_000), now


class _Kept:
    """Nothing was taken out, so nothing is put back."""

    def feed(self, piece: str) -> str:
        return piece

    def flush(self) -> str:
        return ""


class _Heard:
    """One answer, of the cloud's or of the local model's. reader: None for an API that nobody here reads. sent: when it was asked."""

    def __init__(self, reader: AnswerReader | None, sent: float) -> None:
        self._reader, self._digest = reader, hashlib.sha256()
        self._sent, self._over = sent, False
        self._first = self._since()

    def feed(self, data: bytes) -> bytes:
        self._digest.update(data)
        return self._reader.feed(data) if self._reader is not None else data

    def end(self) -> bytes:
        if self._over:
            return b""
        self._over = True
        return self._reader.end() if self._reader is not None else b""

    def _since(self) -> int:
        return int((time.monotonic() - self._sent) * 1000)

    def said(self) -> Detail:
        """answer_sha256: of the octets before anything was put back into them. first_ms, answered_ms: until its head, and its end."""
        detail: Detail = {"answer_sha256": self._digest.hexdigest(), "first_ms": self._first, "answered_ms": self._since()}
        if self._reader is not None:
            detail["answer_tools"] = [_shown(name) for name in self._reader.tools]
            if self._reader.unreadable is not None:
                detail["answer_unreadable"] = self._reader.unreadable
        return detail


def _shown(name: str) -> str:
    return name if _NAME.fullmatch(name) else "?"


def _header(headers: Sequence[Header], wanted: str) -> str:
    return next((value.lower() for name, value in headers if name.lower() == wanted), "")
