"""What is said of a container that begins in a pod which is closed, and which nobody governs: by what it could get out, and its record."""

from __future__ import annotations

import uuid

from stockade.node.arriving import Arrival
from stockade.node.devices import Devices
from stockade.node.pod import Standing, Wanted
from stockade.node.powers import Powers
from stockade.types import Action, Effect, Level, Outcome, Reason, Record, Sandbox


def loose(name: str, powers: Powers, devices: Devices) -> list[str]:
    """By what the container of that name could get out all the same."""
    found = [f"{name} keeps {each}" for each in powers.fatal]
    if powers.raw and devices.shared:
        found.append(f"{name} may send packets of its own on the node's network (CAP_NET_RAW)")
    elif powers.raw and devices.failure:
        found.append(f"{name} may send packets of its own (CAP_NET_RAW): {devices.failure}")
    return found


def record(standing: Standing, wanted: Wanted | None, name: str, found: Arrival, unheld: list[str]) -> tuple[Sandbox, Record]:
    """Of its start. wanted: None while nobody has said who the pod is."""
    image = (wanted.pod.containers.get(name, "") if wanted is not None else "") or found.bundle.image
    called, known = (wanted.pod.called, wanted.pod.labels) if wanted is not None else (f"pod-{standing.uid}", {"pod_uid": standing.uid})
    labels = known | {"container": name, "container_id": found.identity[:12]} | ({"image": image} if image else {})
    detail: dict[str, str | int | list[str]] = {
        "started": "container",
        "governed": "no: everything it asks for is refused",
        "state": standing.state,
        "why": standing.why or "nobody has said yet what it is to be held to",
        "held": "yes" if not unheld else "no",
        "not_held": unheld,
    }
    sandbox = Sandbox(uuid.uuid4().hex[:12], called, "", 0, labels)
    return sandbox, Record(Action.LIFECYCLE, Outcome.DENY, Effect.REFUSE, Level.STATIC, Reason.STARTED, detail=detail)
