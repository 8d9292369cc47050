"""`localhost` in a rule is the host's own loopback: a model server there is reached by its default URL, by whom the rule names."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from framework.machine import Machine
from framework.policy import http as http_rule
from framework.policy import whole


class _Model(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"models": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def model_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.client("curl")
@pytest.mark.parametrize("spelling", ["localhost", "127.0.0.1", "[::1]"])
def test_the_rules_binary_reaches_it(machine: Machine, model_port: int, spelling: str) -> None:
    policy = whole(http_rule("curl", "localhost", paths=["/api/*"], port=[model_port]), allow=["curl"])
    result = machine.run(f"curl -sS http://{spelling}:{model_port}/api/tags", policy=policy)
    assert result.stdout == '{"models": []}', result
    assert result.select(action="http", decision="allow", host="localhost", port=model_port, path="/api/tags", status=200), result


@pytest.mark.client("curl", "/usr/bin/python3")
def test_the_port_is_the_hosts_for_every_binary(machine: Machine, model_port: int) -> None:
    """Another binary is denied, and nobody inside can take the port and answer in the model's place."""
    policy = whole(http_rule("curl", "localhost", paths=["/api/*"], port=[model_port]), allow=["curl", "python3"])
    code = (
        "import socket\n"
        f"for what, call in (('connect', lambda: socket.create_connection(('127.0.0.1', {model_port}), 5)),\n"
        f"                   ('bind', lambda: socket.socket().bind(('127.0.0.1', {model_port})))):\n"
        "    try: call(); print(what, 'done')\n"
        "    except OSError as error: print(what, error.errno)\n"
    )
    result = machine.run(["/usr/bin/python3", "-c", code], policy=policy)
    assert result.stdout.splitlines() == ["connect 1", "bind 98"], result
    assert result.select(action="connect", decision="deny", host="localhost", port=model_port, binary="python3"), result
