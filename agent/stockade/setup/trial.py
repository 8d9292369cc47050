"""A first sandbox under a policy: one request that is allowed, one that is refused, and what the trail says of both.

Both go to a server that this process runs on the host's loopback for as long as it takes, so that the trial needs no network and leaves
nothing anywhere.
"""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockade.types import StockadeError

SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request from inside: what was answered, and its record."""

    method: str
    url: str
    status: int
    body: str
    record: dict[str, Any]


class _Hello(http.server.BaseHTTPRequestHandler):
    """Answers whatever arrives; says nothing."""

    def do_GET(self) -> None:
        body = b"hello from the host\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_words: object) -> None:
        pass


def tried(policy: Path) -> tuple[Asked, Asked]:
    """(the allowed one, the refused one). Raises StockadeError: the sandbox did not start, or did not do what it should."""
    if shutil.which("curl") is None:
        raise StockadeError("the first sandbox asks with curl, which is not installed", hint="apt-get install curl", code="no_curl")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory(prefix="stockade-init-") as room:
            return _asked(policy, Path(room).resolve(), server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _asked(policy: Path, room: Path, port: int) -> tuple[Asked, Asked]:
    beside, work, audit = room / "trial.yaml", room / "work", room / "audit.jsonl"
    work.mkdir()
    beside.write_text(
        "version: 1\nname: trial\nexec: {allow: [curl]}\nnetwork:\n  - name: first-request\n    binary: {allow: [curl]}\n"
        f"    destination: {{allow: [localhost]}}\n    port: [{port}]\n    method: {{allow: [GET]}}\n    path: {{allow: [/hello]}}\n"
    )
    url = f"http://localhost:{port}/hello"
    each = ["--silent", "--show-error", "--write-out", "%{http_code}"]
    ask = ["curl", *each, "--output", "first", url, "--next", *each, "--request", "POST", "--output", "second", url]
    command = [
        sys.executable,
        "-P",  # no module of this directory, which may be anybody's project
        "-m",
        "stockade",
        "run",
        "--policy",
        policy,
        "--policy",
        beside,
        "--workdir",
        work,
        "--audit",
        audit,
        "--",
        *ask,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        said = done.stderr.strip() or f"it ended with {done.returncode}"
        raise StockadeError(f"the first sandbox did not work: {said}", hint="stockade doctor", code="trial")
    statuses = [int(done.stdout[:3] or 0), int(done.stdout[3:] or 0)]
    records = [record for line in audit.read_text().splitlines() if (record := json.loads(line)).get("action") == "http"]
    if statuses[0] != 200 or statuses[1] != 403 or [record["decision"] for record in records] != ["allow", "deny"]:
        raise StockadeError(f"the first sandbox answered {statuses} where 200 and 403 were due", hint="stockade doctor", code="trial")
    bodies = [(work / name).read_text(errors="replace").strip() for name in ("first", "second")]
    first, second = (
        Asked(method, url, status, body, record)
        for method, status, body, record in zip(("GET", "POST"), statuses, bodies, records, strict=True)
    )
    return first, second
