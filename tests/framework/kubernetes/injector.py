"""Another mutating webhook, such as a service mesh has: it puts one more container into every pod. `python -m` it where the node is."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SIDECAR = "injected"


class Injector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        containers = request["object"]["spec"]["containers"]
        response = {"uid": request["uid"], "allowed": True}
        if all(each["name"] != SIDECAR for each in containers):
            sidecar = containers[0] | {"name": SIDECAR, "env": [], "volumeMounts": [], "securityContext": {}}
            patch = json.dumps([{"op": "add", "path": "/spec/containers/-", "value": sidecar}])
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(address: str, port: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer((address, int(port)), Injector)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
