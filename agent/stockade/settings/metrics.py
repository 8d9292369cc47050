"""What the section `metrics` says: where the page is served, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stockade.metrics.listen import Listen
from stockade.policy.format.document import Findings
from stockade.settings.part import Part


@dataclass(frozen=True, slots=True)
class Metrics:
    """listen None: nowhere. targets None: below the agent's own directory."""

    listen: Listen | None = None
    targets: Path | None = None


def metrics(part: Part, findings: Findings) -> Metrics:
    stated = dict(part)
    for one, other in (("certificate", "key"), ("key", "certificate"), ("certificate", "listen"), ("token", "listen")):
        if one in stated and other not in stated:
            findings.add(part.at(one), "needs_key", f"`{one}` is of no use without `{other}`", accepted=f"{other}: {_ACCEPTED[other]}")
    certificate, key, targets = (None if (text := part.text(name)) is None else Path(text) for name in ("certificate", "key", "targets"))
    where, token, listen = part.text("listen"), part.text("token"), None
    if where is not None:
        try:
            listen = Listen.parse(where).secured(certificate, key, token)
        except ValueError as error:
            findings.add(part.at("listen"), "bad_listen", str(error), accepted="127.0.0.1:9464, [::1]:9464, 127.0.0.1:0")
    if listen is not None and not listen.loopback and token is not None and certificate is None:
        said = "the token would cross the network in clear"
        findings.add(part.at("token"), "secret_in_clear", said, accepted="certificate and key, or a `listen` on loopback")
    return Metrics(listen, targets)


_ACCEPTED = {"key": "/etc/stockade/metrics.key", "certificate": "/etc/stockade/metrics.pem", "listen": "127.0.0.1:9464"}
