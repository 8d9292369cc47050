"""docs/audit-reasons.md, made from the closed list of reasons and what is said of each."""

from __future__ import annotations

from stockade.audit.explain import WHY
from stockade.audit.formats.facts import ALERTING, FINDINGS
from stockade.types import Reason

_HEAD = """\
# Every reason

Made from the program: `STOCKADE_GOLDEN=write .venv/bin/pytest tests/unit/audit/test_reasons.py` renews it. A record's `reason` is one of
these and nothing else; refusals, `stockade explain` and the labels of metrics have the same names. `audit show` says these sentences.

*Looked at*: `yes` for what somebody should look at by themselves, also where the policy refuses it as it should. OCSF has it as `is_alert`,
ECS as `event.kind: alert`, CEF as a severity of 8 or more. One with *(record of the sandbox)* is so only in records of the action
`lifecycle`.

| reason | what it means | what can be done | looked at |
|---|---|---|---|
"""


def reasons_page() -> str:
    """docs/audit-reasons.md, made of WHY and of who is alerted."""
    rows = []
    for reason in Reason:
        sentence, hint = WHY[reason]
        looked = (
            "yes"
            if reason in ALERTING
            else "yes (record of the sandbox)"
            if reason in FINDINGS or reason is Reason.ENFORCEMENT_LOST
            else ""
        )
        rows.append(f"| `{reason.value}` | {sentence} | {hint} | {looked} |".replace("|  |", "| |"))
    return _HEAD + "\n".join(rows) + "\n"
