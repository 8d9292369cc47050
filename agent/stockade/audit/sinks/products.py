"""Products that take records over HTTP: what each wants its requests to look like, from its own documentation, and what it answers.

Pure but for the token that Sentinel wants to be asked for. Everything is put together from octets that are canonical JSON already.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from urllib.parse import quote, urlencode, urlsplit

from stockade.audit.sinks import secret
from stockade.audit.sinks.sink import Failed, Item, Outcome
from stockade.audit.sinks.web import Client, Post, WebSink
from stockade.settings.sinks import Sink as Rules

_JSON = {"Content-Type": "application/json"}
_LINES = {"Content-Type": "application/x-ndjson"}
_SCOPE = "https://monitor.azure.com//.default"
_RENEW = 300  # seconds before a token of Sentinel ends


def sink(rules: Rules) -> WebSink:
    """Raises StockadeError for certificates that cannot be used."""
    client = Client(rules.tls, rules.timeout)
    if rules.product == "sentinel":
        login = Login(rules, client.__class__(rules.tls, rules.timeout))
        return WebSink(client, partial(_sentinel, rules, login), login.forget)
    return WebSink(client, partial(MAKERS[rules.product], rules))


def splunk(rules: Rules, batch: Sequence[Item]) -> Post:
    """HTTP Event Collector: event objects one after the other."""
    about = {"host": _host(), "source": "stockade", "sourcetype": f"stockade:{rules.format}"} | (
        {"index": rules.index} if rules.index else {}
    )
    common = json.dumps(about).encode("ascii")[:-1]
    events = (b'%s,"time":%.6f,"event":%s}' % (common, _epoch(item.time), item.json) for item in batch)
    headers = _JSON | {"Authorization": f"Splunk {secret.resolve(rules.token)}"}
    return _post(rules, "/services/collector/event", headers, b"\n".join(events), _splunk_said)


def _splunk_said(body: bytes, count: int) -> Outcome:
    said = _object(body)
    if said.get("code", 0) != 0:
        raise Failed(f"Splunk says {said.get('text')} ({said.get('code')})")
    return Outcome()


def elastic(rules: Rules, batch: Sequence[Item]) -> Post:
    """_bulk: an action and a document a line. The record's hash is the document's id, so one that is sent twice is stored once."""
    lines = []
    for item in batch:
        lines.append(b'{"create":{"_id":"%s"}}' % str(item.record["hash"]).encode("ascii"))
        lines.append(_with_time(item))
    headers = _LINES | ({"Authorization": f"ApiKey {secret.resolve(rules.token)}"} if rules.token else {})
    index = quote(rules.index or "logs-stockade-default", safe="")
    return _post(rules, f"/{index}/_bulk", headers, b"\n".join(lines) + b"\n", _elastic_said)


def _with_time(item: Item) -> bytes:
    """A data stream wants @timestamp, which ECS has and the others have not."""
    if item.is_json and b'"@timestamp":' in item.text:
        return item.text
    stamp = b'{"@timestamp":"%s",' % item.time.encode("ascii")
    return stamp + (item.text[1:] if item.is_json else b'"message":%s}' % item.json)


def _elastic_said(body: bytes, count: int) -> Outcome:
    said = _object(body)
    items = said.get("items")
    if not isinstance(items, list) or len(items) != count:
        raise Failed("Elasticsearch does not say what became of each document")
    refused: list[int] = []
    again: list[int] = []
    why = ""
    for place, each in enumerate(items):
        result = next(iter(each.values()))
        status = int(result.get("status", 500))
        if status < 300 or status == 409:  # it is there already
            continue
        why = why or f"{status} {result.get('error')}"[:300]
        (again if status == 429 or status >= 500 else refused).append(place)
    return Outcome(refused, again, why)


def datadog(rules: Rules, batch: Sequence[Item]) -> Post:
    """Logs API v2: an array of entries, the record as the text of one."""
    tags = json.dumps(",".join(f"{name}:{value}" for name, value in rules.tags.items())).encode("ascii")
    common = b'{"ddsource":"stockade","ddtags":%s,"hostname":%s,"service":"stockade"' % (tags, json.dumps(_host()).encode("ascii"))
    entries = (
        b'%s,"status":"%s","message":%s}'
        % (common, b"warn" if item.record["decision"] == "deny" else b"info", json.dumps(item.text.decode("ascii")).encode("ascii"))
        for item in batch
    )
    headers = _JSON | {"DD-API-KEY": secret.resolve(rules.token)}
    return _post(rules, "/api/v2/logs", headers, b"[" + b",".join(entries) + b"]")


def logscale(rules: Rules, batch: Sequence[Item]) -> Post:
    """humio-structured: events with attributes, below tags they have in common."""
    tags = json.dumps({"source": "stockade", **rules.tags}).encode("ascii")
    events = (
        b'{"timestamp":"%s",%s}'
        % (item.time.encode("ascii"), b'"attributes":%s' % item.text if item.is_json else b'"attributes":{},"rawstring":%s' % item.json)
        for item in batch
    )
    headers = _JSON | {"Authorization": f"Bearer {secret.resolve(rules.token)}"}
    return _post(rules, "/api/v1/ingest/humio-structured", headers, b'[{"tags":%s,"events":[%s]}]' % (tags, b",".join(events)))


def webhook(rules: Rules, batch: Sequence[Item]) -> Post:
    """A record a line."""
    headers = _LINES if all(item.is_json for item in batch) else {"Content-Type": "text/plain; charset=us-ascii"}
    if rules.token:
        headers = headers | {"Authorization": f"Bearer {secret.resolve(rules.token)}"}
    return _post(rules, "", headers, b"".join(item.text + b"\n" for item in batch))


class Login:
    """A token of Microsoft Entra for the Logs Ingestion API, by client credentials; asked for again before it ends."""

    def __init__(self, rules: Rules, client: Client) -> None:
        self._rules, self._client = rules, client
        self._token, self._until = "", 0.0

    def token(self) -> str:
        """Raises Failed."""
        if monotonic() >= self._until:
            rules = self._rules
            asked = {"grant_type": "client_credentials", "client_id": rules.client, "scope": _SCOPE}
            form = urlencode(asked | {"client_secret": secret.resolve(rules.token)}).encode("ascii")
            url = f"{rules.login.rstrip('/')}/{quote(rules.tenant, safe='')}/oauth2/v2.0/token"
            answer = self._client.post(url, {"Content-Type": "application/x-www-form-urlencoded"}, form)
            said = _object(answer.body) if answer.status == 200 else {}
            token = said.get("access_token")
            if not isinstance(token, str):
                raise Failed(f"{urlsplit(url).netloc} gives no token ({answer.status})", answer.after)
            self._token, self._until = token, monotonic() + max(0, int(str(said.get("expires_in", 0))) - _RENEW)
        return self._token

    def forget(self) -> None:
        self._until = 0.0


def _sentinel(rules: Rules, login: Login, batch: Sequence[Item]) -> Post:
    """Logs Ingestion API: an array of rows for a stream of a data collection rule. docs/audit-sinks.md has it declare these columns."""
    rows = (
        b'{"TimeGenerated":"%s","Seq":%d,"Sandbox":%s,"Action":"%s","Decision":"%s","Reason":"%s","Record":%s}'
        % (
            item.time.encode("ascii"),
            item.record["seq"],
            json.dumps(item.record["sandbox"]["name"]).encode("ascii"),
            *(str(item.record[name]).encode("ascii") for name in ("action", "decision", "reason")),
            item.json,
        )
        for item in batch
    )
    path = f"/dataCollectionRules/{quote(rules.rule, safe='')}/streams/{quote(rules.stream, safe='')}?api-version=2023-01-01"
    return _post(rules, path, _JSON | {"Authorization": f"Bearer {login.token()}"}, b"[" + b",".join(rows) + b"]")


MAKERS: dict[str, Callable[[Rules, Sequence[Item]], Post]] = {
    "splunk": splunk,
    "elastic": elastic,
    "datadog": datadog,
    "logscale": logscale,
    "webhook": webhook,
}


def _post(rules: Rules, path: str, headers: dict[str, str], body: bytes, judge: Callable[[bytes, int], Outcome] | None = None) -> Post:
    """path: what the product listens on, unless the settings say more than a host."""
    url = rules.url.rstrip("/") + path if urlsplit(rules.url).path in ("", "/") else rules.url
    return Post(url, headers | secret.headers(rules.headers), body, judge)


def _epoch(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _host() -> str:
    return socket.gethostname()


def _object(body: bytes) -> dict[str, object]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
