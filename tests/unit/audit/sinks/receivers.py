"""Receivers for sinks, each as strict as its product's documentation: what is not framed as it wants is answered with its own error."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Receiver:
    """An HTTP end on loopback. faults: answers to give before it behaves, oldest first. requests: path, headers, body of each."""

    def __init__(self, judge: Callable[[Receiver, str, dict[str, str], bytes], Answer]) -> None:
        self.judge, self.faults = judge, list[Answer]()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.records: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.path, headers, body))
                status, said, *more = outer.faults.pop(0) if outer.faults else outer.judge(outer, self.path, headers, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def seqs(self) -> list[int]:
        return [record["seq"] for record in self.records]


def splunk(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """HEC: concatenated JSON objects, each with an event; the time in seconds."""
    if path != "/services/collector/event":
        return 404, b'{"text":"The requested URL was not found on this server.","code":404}'
    if headers.get("authorization") != "Splunk s3cret":
        return 403, b'{"text":"Invalid token","code":4}'
    decoder, text, place = json.JSONDecoder(), body.decode(), 0
    events: list[dict[str, Any]] = []
    while place < len(text):
        event, place = decoder.raw_decode(text, place)
        known = set(event) <= {"time", "host", "source", "sourcetype", "index", "event", "fields"}
        if not known or not isinstance(event.get("time"), float) or not event.get("event"):
            return 400, b'{"text":"Invalid data format","code":6,"invalid-event-number":%d}' % len(events)
        events.append(event)
        while place < len(text) and text[place] in " \r\n":
            place += 1
    at.records += [event["event"] for event in events]
    return 200, b'{"text":"Success","code":0}'


def elastic(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """_bulk into a data stream: only `create`, a last newline, @timestamp in every document; a document is stored once."""
    if not re.fullmatch(r"/[a-z0-9.-]+/_bulk", path) or headers.get("content-type") != "application/x-ndjson":
        return 400, b'{"error":"bad request"}'
    if headers.get("authorization") != "ApiKey s3cret":
        return 401, b'{"error":"security_exception"}'
    if not body.endswith(b"\n"):
        return 400, b'{"error":"The bulk request must be terminated by a newline [\\\\n]"}'
    lines = body.split(b"\n")[:-1]
    if len(lines) % 2:
        return 400, b'{"error":"Malformed action/metadata line"}'
    items, ids = [], {record["_id"] for record in at.records}
    for action, document in zip(map(json.loads, lines[::2]), map(json.loads, lines[1::2]), strict=True):
        assert set(action) == {"create"}
        if "@timestamp" not in document:
            items.append({"create": {"status": 400, "error": {"type": "document_parsing_exception"}}})
        elif action["create"]["_id"] in ids:
            items.append({"create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}})
        else:
            ids.add(action["create"]["_id"])
            at.records.append(document | {"_id": action["create"]["_id"]})
            items.append({"create": {"status": 201}})
    return 200, json.dumps({"errors": any("error" in item["create"] for item in items), "items": items}).encode()


def datadog(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    if path != "/api/v2/logs" or headers.get("content-type") != "application/json":
        return 404, b"{}"
    if headers.get("dd-api-key") != "s3cret":
        return 403, b'{"errors":[{"status":"403","title":"Forbidden"}]}'
    entries = json.loads(body)
    if not isinstance(entries, list) or len(entries) > 1000 or len(body) > 5 << 20:
        return 413, b"{}"
    for entry in entries:
        if set(entry) != {"ddsource", "ddtags", "hostname", "service", "status", "message"} or not isinstance(entry["message"], str):
            return 400, b"{}"
    at.records += [json.loads(entry["message"]) for entry in entries]
    return 202, b"{}"


def sentinel(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Both ends: Entra's token, and the Logs Ingestion API of a data collection endpoint."""
    if path == "/tenant-1/oauth2/v2.0/token":
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        wanted = {"grant_type": "client_credentials", "client_id": "app-1", "client_secret": "s3cret"}
        if form != wanted | {"scope": "https://monitor.azure.com//.default"}:
            return 400, b'{"error":"invalid_client"}'
        return 200, b'{"token_type":"Bearer","expires_in":3599,"access_token":"t0ken"}'
    if path != "/dataCollectionRules/dcr-1/streams/Custom-Stockade?api-version=2023-01-01":
        return 404, b"{}"
    if headers.get("authorization") != "Bearer t0ken" or headers.get("content-type") != "application/json":
        return 401, b"{}"
    rows = json.loads(body)
    if not isinstance(rows, list) or len(body) > 1 << 20:
        return 413, b"{}"
    for row in rows:
        if set(row) != {"TimeGenerated", "Seq", "Sandbox", "Action", "Decision", "Reason", "Record"} or not _TIME.fullmatch(
            row["TimeGenerated"]
        ):
            return 400, b"{}"
    at.records += [row["Record"] for row in rows]
    return 204, b""


def logscale(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    if path != "/api/v1/ingest/humio-structured" or headers.get("content-type") != "application/json":
        return 404, b""
    if headers.get("authorization") != "Bearer s3cret":
        return 401, b"The supplied authentication is invalid"
    for group in json.loads(body):
        if set(group) != {"tags", "events"} or not all(isinstance(value, str) for value in group["tags"].values()):
            return 400, b"Could not handle input"
        for event in group["events"]:
            if not set(event) <= {"timestamp", "attributes", "rawstring"} or not _TIME.fullmatch(event["timestamp"]):
                return 400, b"Could not handle input"
            at.records.append(event["attributes"])
    return 200, b"{}"


def webhook(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    if path != "/hook?team=a" or headers.get("content-type") != "application/x-ndjson" or headers.get("x-org") != "7":
        return 404, b""
    if headers.get("authorization") != "Bearer s3cret":
        return 401, b""
    if not body.endswith(b"\n"):
        return 400, b""
    at.records += map(json.loads, body.splitlines())
    return 200, b""


def otlp(at: Receiver, path: str, headers: dict[str, str], body: bytes) -> Answer:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

    if path != "/v1/logs" or headers.get("content-type") != "application/x-protobuf" or headers.get("x-key") != "s3cret":
        return 404, b""
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert about["service.name"] == "stockade"
        for scope in resource.scope_logs:
            for one in scope.log_records:
                record = json.loads(one.body.string_value)
                attributes = {each.key: each.value for each in one.attributes}
                assert attributes["stockade.seq"].int_value == record["seq"]
                assert attributes["stockade.decision"].string_value == record["decision"]
                assert one.event_name == f"stockade.{record['action']}" and one.time_unix_nano and one.severity_number
                at.records.append(record)
    return 200, ExportLogsServiceResponse().SerializeToString()
