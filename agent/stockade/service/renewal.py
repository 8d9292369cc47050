"""The key that signs a sandbox's certificates, and the next one before it expires: under the same root, so nothing inside has to notice.

Under an organisation's root it is good for what the policy names: for more of it another key signs before the policy comes into force, for
less soon after. Owns when that is, the record of it, and what becomes of an attempt that fails: the key before goes on for as long as it is
valid, and the attempt is made again. Connections that are open keep the certificate they were shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from stockade.policy import Policy, Rule
from stockade.proxy import Authority, Signing
from stockade.service.governed import Governed
from stockade.signing.names import Names
from stockade.signing.settings import Ca
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, StockadeError

log = logging.getLogger(__name__)

LOOK = 60.0  # seconds between two looks at the clock: a machine that slept wakes up late
FIT = 5.0  # and between two at what the policy in force names
RETRY = 300.0  # and between two attempts, at most

Detail = dict[str, str | int | list[str]]


class Renews(Protocol):
    """A worker, as far as it is needed here. Raises ConnectionError."""

    async def renew(self, sandbox: int, signing: Signing) -> None: ...


class Renewal:
    """One sandbox's. write takes each record and does not raise. changed: called when another key signs.

    renewed, failed: how often since this began. why: what kept the newest attempt from working, empty when it did.
    """

    def __init__(
        self,
        governed: Governed,
        authority: Authority,
        ca: Ca,
        worker: Callable[[], Renews],
        write: Callable[[Governed, Record], None],
    ) -> None:
        from stockade.signing import sandbox  # cryptography: loaded by now, and not before the first fork

        self.authority = authority
        self.changed: Callable[[], None] = lambda: None
        self.renewed = self.failed = 0
        self.why = ""
        self._governed, self._ca, self._worker, self._write, self._signing = governed, ca, worker, write, sandbox
        self._good_for = sandbox.good_for(authority)
        self._turn = asyncio.Lock()
        self._looked: Policy | None = None  # in force at the last look, unless another one was prepared since
        self._fits: Policy | None = None  # the newest that the key was found to be good for, and for no more

    async def rotate(self, cause: str) -> Detail:
        """Another key, now, because a person says so. What `described` says of it. Raises StockadeError: the one before goes on."""
        self._signing.insist(self._ca)
        return await self._next(cause)

    async def _next(self, cause: str) -> Detail:
        async with self._turn:
            return await self._rotate(cause)

    async def prepare(self, policy: Policy, rules: Sequence[Rule]) -> None:
        """Before a policy comes into force with these rules beside it: a key that is good for all that they name. Raises StockadeError.

        One that is good for more goes on until `watch` sees the policy in force: what is taken away must not have to wait for a token.
        """
        if self.authority.root_key is not None:
            return
        async with self._turn:
            self._looked = None
            wanted = await asyncio.to_thread(self._wanted, policy, rules)
            if not self._good_for.covers(wanted):
                await self._rotate("policy", wanted)

    async def watch(self) -> None:
        """Renew whenever it is due, and when the key is good for other names than the policy in force has, for ever."""
        every = LOOK if self.authority.root_key is not None else FIT
        while True:
            left = self.authority.signing.due - time.time()
            if left > 0 and not await self._unfit():
                await asyncio.sleep(min(left + 0.01, every))
                continue
            try:
                await self._next("policy" if left > 0 else "due")
            except StockadeError:  # it is on record
                await asyncio.sleep(max(1.0, min(RETRY, self._ca.life / 30)))

    async def _unfit(self) -> bool:
        """Whether the key is good for other names than it should be. Only of a policy that two looks found in force, and none coming."""
        policy, before = self._governed.policy, self._looked
        self._looked = policy
        if policy is not before or policy is self._fits or self.authority.root_key is not None or self._ca.certificate is None:
            return False
        try:
            unfit = await asyncio.to_thread(self._wanted, policy) != self._good_for
        except StockadeError:  # the attempt says so, on record
            return True
        if not unfit:
            self._fits = policy
        return unfit

    def described(self) -> Detail:
        due = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.authority.signing.due))
        return self._signing.described(self.authority) | {"due": due, "renewed": self.renewed, "why": self.why}

    def _wanted(self, policy: Policy, rules: Sequence[Rule] = ()) -> Names:
        if self.authority.root_key is not None:
            return Names(everything=True)
        return self._signing.wanted(self._ca, policy, rules)

    async def _rotate(self, cause: str, wanted: Names | None = None) -> Detail:
        """wanted None: what the policy in force names."""
        try:
            good_for, signing = await asyncio.to_thread(self._again, wanted)
        except StockadeError as error:
            self.failed, self.why = self.failed + 1, error.message
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.authority.signing.until))
            self._record(Outcome.DENY, Reason.AUTHORITY_NOT_RENEWED, {"cause": cause, "why": error.message, "until": until})
            log.error("the key that signs %s's certificates is not renewed, and expires at %s: %s", self.authority.name, until, error)
            raise
        self.authority = Authority(self.authority.name, self.authority.certificate_pem, signing, self.authority.root_key)
        self._good_for, self.why, self.renewed = good_for, "", self.renewed + 1
        self.changed()
        with contextlib.suppress(ConnectionError):  # it just died: the next worker is given the newest
            await self._worker().renew(self._governed.number, signing)
        described = self._signing.described(self.authority)
        self._record(Outcome.ALLOW, Reason.AUTHORITY_RENEWED, {"cause": cause, **described})
        return described

    def _again(self, wanted: Names | None) -> tuple[Names, Signing]:
        """In a thread. Whatever else goes wrong is a failed attempt too, and not the end of all attempts."""
        try:
            wanted = self._wanted(self._governed.policy) if wanted is None else wanted
            return wanted, self._signing.again(self.authority, self._ca, wanted)
        except StockadeError:
            raise
        except Exception as error:
            log.exception("renewal failed")
            raise StockadeError(f"ca: {error!r}", hint="see the agent's log", code="ca_unavailable") from None

    def _record(self, outcome: Outcome, reason: Reason, detail: Detail) -> None:
        effect = Effect.PASS if outcome is Outcome.ALLOW else Effect.REFUSE
        self._write(self._governed, Record(Action.LIFECYCLE, outcome, effect, Level.STATIC, reason, detail=detail))
