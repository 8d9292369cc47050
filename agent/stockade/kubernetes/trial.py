"""What a policy that is rolled out would refuse of what is allowed today. Nothing is held to it meanwhile.

Of a pod that others hold, each record of something allowed is put to the composition with the new generation in it. Of one that nothing
holds, what it would be refused is on record already. A deny list that names what is refused was written by somebody who meant it: that is
expected.
"""

from __future__ import annotations

from stockade.kubernetes.resources import Json
from stockade.policy.decide import decide
from stockade.policy.making.unused import binary_of, requests_of
from stockade.policy.model import Policy
from stockade.types import Outcome, Reason

_MEANT = frozenset({Reason.RULE_DENY, Reason.REGO_DENY})
_ASKED = 20_000
_MOST = 1000  # kinds of them that are told apart; more is no news


class Trial:
    """Of one generation of one policy, on this node."""

    def __init__(self) -> None:
        self._asked: set[tuple[object, ...]] = set()  # of what is allowed: most of a trail is asked again and again
        self._found: dict[str, None] = {}

    @property
    def found(self) -> tuple[str, ...]:
        """Each kind once: by whom, where to, how."""
        return tuple(self._found)

    def would_be_refused(self, record: Json) -> bool:
        """A record of a pod that only observes. True: it is news."""
        if record["decision"] != Outcome.DENY or record["enforced"] or record["reason"] in _MEANT:
            return False
        return self._note(record, str(record["reason"]))

    def allowed(self, record: Json, policy: Policy) -> bool:
        """A record of a pod that is held to something else; policy: what it would be held to. True: it is news."""
        fields = record["binary"]
        if record["decision"] != Outcome.ALLOW or not fields or fields["path"] == "?":
            return False
        to, http = record["destination"], record["http"]
        asked = policy.sources, record["action"], *fields.values(), str(to), str(http and _line(http))
        if asked in self._asked:
            return False
        if len(self._asked) >= _ASKED:
            self._asked.clear()
        self._asked.add(asked)
        binary = binary_of(fields["name"], fields["path"], fields["script"], fields["sha256"], policy)
        answers = [decide(request, policy) for request in requests_of(record, binary)]
        if not answers or any(answer.allowed for answer in answers) or answers[0].reason in _MEANT:
            return False
        return self._note(record, str(answers[0].reason))

    def cannot(self, why: str) -> bool:
        return self._add(why)

    def _note(self, record: Json, reason: str) -> bool:
        who, to, http = (record["binary"] or {}).get("name", "?"), record["destination"] or {}, record["http"]
        how = f" {_line(http)}" if http else ""
        port = f":{to['port']}" if to.get("port") else ""
        return self._add(f"{record['action']} of {who} to {to.get('host', '?')}{port}{how}: {reason}")

    def _add(self, text: str) -> bool:
        if text in self._found or len(self._found) >= _MOST:
            return False
        self._found[text] = None
        return True


def _line(http: Json) -> str:
    return f"{http['method']} {http['path']}"
