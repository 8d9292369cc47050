"""What an entry of `audit.sinks` says, and which keys which type of sink can do with."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stockade.policy.format.document import Findings
from stockade.settings.part import Part
from stockade.settings.rotate import Rotate, rotate

_ALWAYS = ("type", "name", "format", "batch", "behind")
_TLS = ("ca", "certificate", "key")
_HTTP = ("url", "token", "headers", "timeout", *_TLS)
_TYPES = {
    "file": ("path", "rotate"),
    "stdout": (),
    "journald": (),
    "syslog": ("address", "transport", "facility", "timeout", *_TLS),
    "http": ("product", *_HTTP),
    "otlp": tuple(key for key in _HTTP if key != "token"),
}
_PRODUCTS = {
    "splunk": ("index",),
    "elastic": ("index",),
    "datadog": ("tags",),
    "sentinel": ("tenant", "client", "rule", "stream", "login"),
    "logscale": ("tags",),
    "webhook": (),
}
_NEEDED = {
    "file": {"path": "path: /var/log/stockade/{trail}.ocsf.jsonl"},
    "syslog": {"address": "address: siem.example.com:6514"},
    "http": {"url": "url: https://siem.example.com"},
    "otlp": {"url": "url: http://127.0.0.1:4318"},
    "splunk": {"token": "token: file:/etc/stockade/hec"},
    "datadog": {"token": "token: file:/etc/stockade/datadog"},
    "logscale": {"token": "token: file:/etc/stockade/logscale"},
    "sentinel": {
        "tenant": "tenant: the directory's id",
        "client": "client: the application's id",
        "token": "token: file:/etc/stockade/sentinel",
        "rule": "rule: dcr-…",
        "stream": "stream: Custom-Stockade",
    },
}
_SECRET = re.compile(r"(?i)auth|token|secret|key|cookie|credential|passw")


@dataclass(frozen=True, slots=True)
class Batch:
    """size: bytes; wait: seconds."""

    records: int = 500
    size: int = 1 << 20
    wait: float = 1.0


@dataclass(frozen=True, slots=True)
class Tls:
    """ca None: the system's. certificate and key: our own, both or neither."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Sink:
    """One sink. What its type has no use for is at its default. token, and values of headers: file:PATH or env:NAME, never the secret."""

    type: str
    name: str
    format: str = "json"
    path: str = ""
    rotate: Rotate = field(default_factory=Rotate)
    host: str = ""
    port: int = 0
    transport: str = "tls"
    facility: str = "local0"
    product: str = ""
    url: str = ""
    token: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    tenant: str = ""
    client: str = ""
    rule: str = ""
    stream: str = ""
    login: str = "https://login.microsoftonline.com"
    tls: Tls = field(default_factory=Tls)
    timeout: float = 10.0
    batch: Batch = field(default_factory=Batch)
    behind: int = 1 << 30


def sink(part: Part, turning: Rotate, findings: Findings) -> Sink:
    kind = part.word("type", "")
    product = part.word("product", "webhook") if kind == "http" else ""
    _examine(part, kind, product, findings)
    default, batch = Sink(kind, ""), part.part("batch")
    host, port = _address(part, findings)
    return Sink(
        type=kind,
        name=part.word("name", product or kind),
        format=part.word("format", default.format),
        path=part.word("path", ""),
        rotate=rotate(part.part("rotate"), turning),
        host=host,
        port=port,
        transport=part.word("transport", default.transport),
        facility=part.word("facility", default.facility),
        product=product,
        url=part.word("url", ""),
        token=part.word("token", ""),
        headers={name: value for name, (value, _) in part.pairs("headers").items()},
        index=part.word("index", ""),
        tags={name: value for name, (value, _) in part.pairs("tags").items()},
        tenant=part.word("tenant", ""),
        client=part.word("client", ""),
        rule=part.word("rule", ""),
        stream=part.word("stream", ""),
        login=part.word("login", default.login),
        tls=Tls(*(Path(text) if (text := part.text(key)) else None for key in _TLS)),
        timeout=part.seconds("timeout", default.timeout),
        batch=Batch(
            batch.whole("records", default.batch.records),
            batch.size("size", default.batch.size),
            batch.seconds("wait", default.batch.wait),
        ),
        behind=part.size("behind", default.behind),
    )


def _examine(part: Part, kind: str, product: str, findings: Findings) -> None:
    """Keys against type and product. A key that would do nothing is an error: its author believes that it does something."""
    if kind not in _TYPES:  # a finding already
        return
    what = f"a sink for {product}" if product else f"a sink of type {kind}"
    known = (*_ALWAYS, *_TYPES[kind], *_PRODUCTS.get(product, ()))
    stated = dict(part)
    for key, place in stated.items():
        if key not in known:
            findings.add(place, "not_of_type", f"{what} has no use for `{key}`", accepted=", ".join(known))
    for key, accepted in {**_NEEDED.get(kind, {}), **_NEEDED.get(product, {})}.items():
        if key not in stated:
            findings.add(part.place, "needs_key", f"{what} cannot do without `{key}`", accepted=accepted)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if one in stated and other not in stated:
            findings.add(part.at(one), "needs_key", f"`{one}` is of no use without `{other}`", accepted=f"{other}: /etc/stockade/own.pem")
    if kind == "syslog" and part.word("transport", "tls") != "tls":
        for key in _TLS:
            if key in stated:
                findings.add(part.at(key), "not_of_type", f"syslog without TLS has no use for `{key}`", accepted="transport: tls")
    for name, (value, place) in part.pairs("headers").items():
        if _SECRET.search(name) and not value.startswith(("file:", "env:")):
            findings.add(
                place, "secret_in_clear", f"`{name}` carries a secret, which a settings file does not hold", accepted="file:/…, env:NAME"
            )
    _in_clear(part, findings)


def _in_clear(part: Part, findings: Findings) -> None:
    """A credential that anybody on the way could read is none for long."""
    url = urlsplit(part.word("url", ""))
    secret = part.text("token") or any(value.startswith(("file:", "env:")) for value, _ in part.pairs("headers").values())
    if url.scheme == "http" and secret and not _is_loopback(url.hostname or ""):
        findings.add(part.at("url"), "secret_in_clear", "the credential would cross the network in clear", accepted="https://…")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(part: Part, findings: Findings) -> tuple[str, int]:
    text = part.text("address")
    if text is None:
        return "", 0
    host, _, port = text.rpartition(":")
    if not 1 <= int(port) <= 65535:
        findings.add(part.at("address"), "bad_port", f"`{port}` is no port", accepted="1 to 65535")
    return host.strip("[]"), int(port)
