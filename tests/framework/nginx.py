"""The real HTTP server of the tests: one nginx in the namespace, one `server` block and address per name.

Every site answers with what it saw (Seen), so a client's output tells which server answered which request.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from framework.ca import Leaf
from framework.netns import Addresses, Namespace

# `client` ties an answer to one connection: the upstream port is the same as long as the connection lives.
_SEEN = (
    '{"server":"%s","host":"$host","method":"$request_method","path":"$request_uri","protocol":"$server_protocol","tls":"$ssl_protocol",'
    '"client":"$remote_addr $remote_port","connection":"$connection","proxy":"$http_via$http_x_forwarded_for","length":"$content_length",'
    '"certificate":"$ssl_client_s_dn"}'
)


@dataclass(frozen=True, slots=True)
class Site:
    """One name, answered on its own addresses. `root` serves files; without it the answer is what was seen, as JSON."""

    name: str
    addresses: Addresses
    leaf: Leaf | None = None
    http2: bool = True
    protocols: str = "TLSv1.2 TLSv1.3"
    client_ca: Path | None = None
    root: Path | None = None
    plain_ports: tuple[int, ...] = (80,)

    def block(self) -> str:
        hosts = (self.addresses.v4, f"[{self.addresses.v6}]")
        lines = [f"server_name {self.name};", *(f"listen {host}:{port};" for host in hosts for port in self.plain_ports)]
        if self.leaf:
            lines += [f"listen {host}:443 ssl{' http2' if self.http2 else ''};" for host in hosts]
            lines += [f"ssl_certificate {self.leaf.chain};", f"ssl_certificate_key {self.leaf.key};", f"ssl_protocols {self.protocols};"]
        if self.client_ca:
            lines += [f"ssl_client_certificate {self.client_ca};", "ssl_verify_client on;"]
        if self.root:
            # A packument is a file named after its package, beside a directory of the same name: the file is called NAME.json.
            lines.append(f"root {self.root}; location / {{ try_files $uri.json $uri $uri/index.html =404; }}")
        else:
            lines.append(f"default_type application/json; location / {{ return 200 '{_SEEN % self.name}\\n'; }}")
        return "server {\n  " + "\n  ".join(lines) + "\n}\n"


class Nginx:
    """nginx with these sites, until the namespace closes."""

    def __init__(self, namespace: Namespace, directory: Path, sites: list[Site]) -> None:
        self._log = directory / "access.log"
        configuration = directory / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory, sites="".join(site.block() for site in sites)))
        # What it says on stderr is in error.log too: 1.26 warns of `listen … http2`, which 1.22 wants.
        command = ["nginx", "-p", str(directory), "-e", f"{directory}/error.log", "-c", str(configuration)]
        namespace.spawn(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (directory / "nginx.pid").exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {(directory / 'error.log').read_text()}")
            time.sleep(0.02)

    def requests(self, **expected: str) -> list[dict[str, str]]:
        """The requests that arrived so far, those whose fields (server, method, path) are as expected."""
        whole = self._log.read_text().rpartition("\n")[0]  # the last may be half written
        seen = [json.loads(line) for line in whole.splitlines()]
        return [request for request in seen if expected.items() <= request.items()]


_CONFIGURATION = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  log_format seen escape=json '{{"server":"$server_name","host":"$host","method":"$request_method","path":"$request_uri"}}';
  access_log {directory}/access.log seen;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server_names_hash_bucket_size 128;
  keepalive_requests 1000000;
  keepalive_timeout 300s;
  types {{ text/html html; application/json json; application/octet-stream whl tgz; }}
  {sites}
}}
"""
