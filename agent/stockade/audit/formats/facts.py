"""What every foreign form says of a record in its own words: when, how grave, to what address, and the one-line account of it.

Owns the list of reasons that somebody should look at by themselves, whatever the policy: they mean that a program lied about who it is,
that data was about to leave, or that Stockade itself lost something.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from stockade.audit.human import word
from stockade.audit.record import Json
from stockade.types import Reason

VENDOR = "Stockade"
PRODUCT = "Stockade"

ALERTING = frozenset(
    {
        Reason.EXEC_CHANGED,
        Reason.EXEC_ANONYMOUS,
        Reason.MAPPING_WRITABLE,
        Reason.LOADER_VARIABLE,
        Reason.IDENTITY_UNKNOWN,
        Reason.IDENTITY_MISMATCH,
        Reason.SOCKET_TAINTED,
        Reason.AGENT_ADDRESS,
        Reason.UNKNOWN_SYNTHETIC,
        Reason.SNI_MISMATCH,
        Reason.HOST_MISMATCH,
        Reason.AUDIT_UNAVAILABLE,
        Reason.KERNEL_MAP_FULL,
        Reason.SCAN_FOUND,
        Reason.PRIVACY_ROUTE,
        Reason.PRIVACY_DEFAULT,
        Reason.PRIVACY_RESIDENCY,
    }
)
# About Stockade itself: nobody asked for anything, and something is wrong.
FINDINGS = frozenset(
    {
        Reason.EVENTS_LOST,
        Reason.PACKET_DROPPED,
        Reason.WORKER_LOST,
        Reason.ENFORCEMENT_LOST,
        Reason.LIMIT_REACHED,
        Reason.KERNEL_MAP_FULL,
        Reason.AUDIT_UNAVAILABLE,
    }
)


class Gravity(IntEnum):
    """How much somebody should care. The forms have scales of their own."""

    ALLOWED = 0
    REFUSED = 1  # what the policy is for
    OBSERVED = 2  # denied, and let through: `mode: observe`
    ALERT = 3
    LOST = 4  # what held the sandbox was taken away


def gravity(record: Json) -> Gravity:
    """How much a record matters to whoever watches; what was lost comes first, and a finding matters though it was allowed."""
    if record["reason"] == Reason.ENFORCEMENT_LOST:
        return Gravity.LOST
    if finding(record):
        return Gravity.ALERT
    if record["decision"] == "allow":
        return Gravity.ALLOWED
    if record["reason"] in ALERTING:
        return Gravity.ALERT
    return Gravity.REFUSED if record["enforced"] else Gravity.OBSERVED


@dataclass(frozen=True, slots=True)
class Pod:
    """uid: as its cgroup is called; of a static pod that is no UUID. node, service_account: may be empty."""

    namespace: str
    name: str
    uid: str
    node: str
    service_account: str


@dataclass(frozen=True, slots=True)
class Container:
    """Each may be empty."""

    name: str
    identity: str
    image: str


def pod(record: Json) -> Pod | None:
    """Of which the record tells."""
    labels = record["sandbox"]["labels"]
    if not all(labels.get(name) for name in ("namespace", "pod", "pod_uid")):
        return None
    return Pod(labels["namespace"], labels["pod"], labels["pod_uid"], labels.get("node", ""), labels.get("service_account", ""))


def container(record: Json) -> Container | None:
    """Which somebody else's runtime made, and a record tells of."""
    labels = record["sandbox"]["labels"]
    if not labels.get("container"):
        return None
    return Container(labels["container"], labels.get("container_id", ""), labels.get("image", ""))


def finding(record: Json) -> bool:
    """Whether the record tells of no attempt, but of something that went wrong."""
    return record["action"] == "lifecycle" and record["reason"] in FINDINGS


def milliseconds(record: Json) -> int:
    """Since the epoch."""
    return round(datetime.fromisoformat(record["time"]).timestamp() * 1000)


def address(text: str | None) -> str | None:
    """The text when it is an IP address: the forms refuse anything else in such a field."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def texts(detail: Json) -> dict[str, str | list[str]]:
    """What only this action has, all of it text: a receiver that has seen a number under a name refuses a text under it later."""
    return {name: [str(item) for item in value] if isinstance(value, list) else str(value) for name, value in sorted(detail.items())}


def basename(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path or "?"


def title(record: Json) -> str:
    """`http deny: no_rule`: the same for all that may be counted together."""
    return f"{word(record['action'])} {word(record['decision'])}: {word(record['reason'])}"
