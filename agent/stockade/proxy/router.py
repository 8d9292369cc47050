"""Which requests are read before they are passed on, and by whom: the rule's `scan`, or the privacy router where the call is of a model.

One for each worker. Asks the policy in force, keeps nothing of a request.
"""

from __future__ import annotations

import weakref
from dataclasses import replace

from stockade.metrics.figures import LocalModel
from stockade.policy import Policy, own
from stockade.policy.privacy import Privacy
from stockade.privacy.extract.recognise import is_endpoint, ordinary, recognise
from stockade.privacy.redact import Vault
from stockade.privacy.serve.client import Client
from stockade.privacy.settings import Settings as Detection
from stockade.proxy.connection import Connection
from stockade.proxy.exchange import Exchange, judged
from stockade.proxy.inference import Inference, detection_of
from stockade.proxy.ladder import Head, Refusal
from stockade.proxy.local import LocalModels
from stockade.proxy.scan import Scan
from stockade.proxy.screen import Budget, Screening, Verdict
from stockade.proxy.settings import Settings
from stockade.types import Action, Effect

TAIL = 300  # octets of what was said before that are read again with a message, in however many messages it was said


class Router:
    def __init__(self, client: Client, locals_: LocalModels, settings: Settings) -> None:
        self._client, self._locals, self._settings = client, locals_, settings
        self._vaults: dict[int, Vault] = {}  # by sandbox; in the memory of this process alone
        self._before: weakref.WeakKeyDictionary[Exchange, bytes] = weakref.WeakKeyDictionary()  # the end of what was said before
        self._detections: dict[int, tuple[Privacy, Detection]] = {}  # by sandbox, of the privacy section that was last in force

    def figures(self, policy: object) -> LocalModel | None:
        """Of the local model of a policy."""
        local = policy.privacy.local if isinstance(policy, Policy) and policy.privacy is not None else None
        return None if local is None else self._locals.figures(local)

    def forget(self, sandbox: int) -> None:
        """It has ended: what was redacted in it is nobody's any more."""
        self._vaults.pop(sandbox, None)
        self._detections.pop(sandbox, None)

    def rehearse(self) -> None:
        """Load what Python loads on first use."""
        for codec in ("utf-16", "utf-16-le", "utf-8-sig", "latin-1"):
            "rehearsal".encode(codec).decode(codec)

    async def screening(self, connection: Connection, head: Head, budget: Budget) -> Screening | None:
        """Not None: this request is read before it goes anywhere. A request that its head alone denies never is."""
        policy = connection.served.policy
        assert connection.caller is not None
        if not isinstance(policy, Policy) or connection.caller.host == own.HOST or not _reads(policy):
            return None
        try:
            admitted = await judged(connection, head, policy)
        except ConnectionError:
            return None  # the agent is gone: opening will say so
        if isinstance(admitted, Refusal):
            return None
        if self._scan(connection, policy, admitted.rules) is None and not _inference(policy, connection.caller.host or "", head):
            return None
        return Screening(head, admitted, policy, budget.hold())

    async def verdict(self, connection: Connection, screening: Screening, policy: Policy, body: bytes | None) -> Verdict | None:
        """What becomes of it. None: it passes like any other."""
        head = screening.head
        assert connection.caller is not None
        scan = self._scan(connection, policy, await self._rules(connection, screening, policy))
        found = None if scan is None else await scan.request(head, body)
        if found is not None and found.effect is Effect.REFUSE:
            return found
        host = connection.caller.host or ""
        if policy.privacy is None or not _inference(policy, host, head):
            return found
        if ordinary(host, (head.method, head.path), head.headers, body, policy.privacy.endpoints):
            return found
        if found is not None:
            head, body = after(found, head, body)
        vault = self._vaults.setdefault(connection.served.sandbox, Vault(policy.privacy.ttl))
        vault.keep(policy.privacy.ttl)
        detection, seconds = self._detection(connection, policy.privacy), self._settings.classify_seconds
        inference = Inference(self._client, self._locals, policy, policy.privacy, vault, detection, seconds)
        return both(found, await inference.verdict(connection, head, body))

    async def _rules(self, connection: Connection, screening: Screening, policy: Policy) -> frozenset[str]:
        """By which it may go on now that its body is here: the policy may be another one, and another program may have spoken since."""
        try:
            admitted = await judged(connection, screening.head, policy)
        except ConnectionError:
            return screening.admitted.rules
        return screening.admitted.rules if isinstance(admitted, Refusal) else admitted.rules

    async def message(self, connection: Connection, exchange: Exchange, content: bytes) -> Verdict | None:
        """The same of what is said on a WebSocket that is open."""
        scan = self._scan(connection, connection.served.policy, exchange.rules())
        if scan is None:
            return None
        before = self._before.get(exchange, b"")
        self._before[exchange] = (before + content)[-TAIL:]
        return await scan.message(content, before)

    def withheld(self, connection: Connection) -> bool:
        """Whether a connection that nobody looks into may not be: it leads to models, and the policy wants their calls read."""
        policy = connection.served.policy
        privacy = policy.privacy if isinstance(policy, Policy) else None
        if privacy is None or connection.caller is None or not is_endpoint(connection.caller.host or "", privacy.endpoints):
            return False
        return privacy.unreadable != "pass" and privacy.mode == "enforce" and bool(policy.enforced)

    def unread(self, connection: Connection, exchange: Exchange) -> bool:
        """Whether more may come of a request that is under way, which the policy in force wants read and nobody can read any more: a body
        that began to pass, or a WebSocket of a model that was opened, before it wanted that. Messages are read under any rule's `scan`.
        """
        policy, action = connection.served.policy, exchange.admitted.action
        if exchange.sent or not isinstance(policy, Policy) or not policy.enforced or connection.caller is None:
            return False
        privacy, host = policy.privacy, connection.caller.host or ""
        if privacy is None or privacy.unreadable != "pass":
            scanned = action is not Action.WEBSOCKET and self._scan(connection, policy, exchange.rules()) is not None
            called = privacy is not None and privacy.mode == "enforce"
            return scanned or (called and _inference(policy, host, Head(exchange.method, exchange.admitted.path, None, ())))
        return False

    def _detection(self, connection: Connection, privacy: Privacy | None) -> Detection:
        """Made once for each section: it may hold a dictionary of a million words."""
        if privacy is None:
            return Detection()
        known = self._detections.get(connection.served.sandbox)
        if known is None or known[0] is not privacy:
            known = self._detections[connection.served.sandbox] = privacy, detection_of(privacy)
        return known[1]

    def _scan(self, connection: Connection, policy: object, names: frozenset[str]) -> Scan | None:
        """What all these rules want read, as one: no category that any of them names leaves, and it is masked where none of them denies."""
        if not isinstance(policy, Policy):  # what a test decides by
            return None
        rules = [rule for rule in policy.rules if rule.scan and rule.name in names]
        if not rules:
            return None
        seconds, privacy = self._settings.classify_seconds, policy.privacy
        unreadable = privacy.unreadable if privacy is not None else "deny"
        detection = self._detection(connection, privacy)
        return Scan(
            self._client,
            tuple(dict.fromkeys(category for rule in rules for category in rule.scan)),
            detection,
            redact=all(rule.on_found == "redact" for rule in rules),
            unreadable=unreadable,
            seconds=seconds,
            enforced=policy.enforced,
        )


def _reads(policy: Policy) -> bool:
    return policy.privacy is not None or any(rule.scan for rule in policy.rules)


def _inference(policy: Policy, host: str, head: Head) -> bool:
    return policy.privacy is not None and recognise(host, head.method, head.path, policy.privacy.endpoints) is not None


def after(found: Verdict, head: Head, body: bytes | None) -> tuple[Head, bytes | None]:
    """A request as the rule's `scan` leaves it."""
    headers = head.headers if found.headers is None else found.headers
    if found.body is not None:
        headers = tuple((name, value) for name, value in headers if name != "content-encoding")
    return replace(head, path=found.target or head.path, headers=headers), body if found.body is None else found.body


def both(found: Verdict | None, verdict: Verdict | None) -> Verdict | None:
    """What becomes of a call that was scanned as well: what the scan took out stays out."""
    return verdict or found if verdict is None or found is None else _both(found, verdict)


def _both(found: Verdict, verdict: Verdict) -> Verdict:
    otherwise = verdict.otherwise
    scanned = {f"scan_{name}": value for name, value in found.detail.items() if name in ("categories", "redacted")}
    return replace(
        verdict,
        effect=found.effect if verdict.effect is Effect.PASS else verdict.effect,
        body=verdict.body if verdict.body is not None else found.body,
        headers=verdict.headers if verdict.headers is not None else found.headers,
        target=found.target,
        otherwise=None if otherwise is None else lambda failure: _both(found, otherwise(failure)),
        detail=verdict.detail | scanned,
        unsaid=(*verdict.unsaid, *found.unsaid),
    )
