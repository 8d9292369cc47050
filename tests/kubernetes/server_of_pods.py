"""What pods of a test reach on the node, each request written down: HTTPS, and a port that nobody may reach. And the cluster's DNS, which
answers by a file of names and addresses.

Run with an address, that port, a certificate, its key, where to write, and that file.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


def answer(names: socket.socket, zone: Path) -> None:
    while True:
        data, peer = names.recvfrom(4096)
        query = dns.message.from_wire(data)
        question = query.question[0]
        known = dict(line.split() for line in zone.read_text().splitlines())
        found = known.get(question.name.to_text().rstrip("."))
        said = dns.message.make_response(query)
        if found is None:
            said.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            said.answer.append(dns.rrset.from_text(question.name, 5, "IN", "A", found))
        names.sendto(said.to_wire(), peer)


def main(address: str, raw: int, certificate: str, key: str, heard: str, zone: str) -> None:
    lock = threading.Lock()

    def write(line: str) -> None:
        with lock, open(heard, "a") as file:  # noqa: PTH123
            file.write(line + "\n")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            write(f"{self.command} {self.path}")
            if not self.path.endswith("/slow"):
                self.send_response(200)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"ok\n")
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(600):
                self.wfile.write(b"5\r\ntick\n\r\n")
                self.wfile.flush()
                time.sleep(0.2)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """On no terminal."""

    server = http.server.ThreadingHTTPServer((address, 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, raw))
    listener = socket.create_server((address, raw))

    def hear() -> None:
        while True:
            datagrams.recv(100)
            write("raw udp")

    threading.Thread(target=hear, daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind((address, 53))
    threading.Thread(target=answer, args=(names, Path(zone)), daemon=True).start()
    print("ready", flush=True)
    while True:
        connection, peer = listener.accept()
        write(f"raw tcp {peer[0]}")
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
