"""Fills tests/golden/corpus with what real programs say: python tests/fuzz/capture.py, as root, in a network namespace of its own.

Nothing leaves it: clients shake hands with a listener on its loopback, resolvers ask a socket that never answers, and a sandbox that this
checkout runs gives the kernel's events and origins. A client that is not installed leaves its seed as it was.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests/golden/corpus"
NAME = "seed.example"

_NODE = f"require('tls').connect({{host: '127.0.0.1', port: 443, servername: '{NAME}', ALPNProtocols: ['h2']}}).on('error', e => e)"
_JAVA = f"""
import javax.net.ssl.*; import java.net.*;
class Seed {{ public static void main(String[] a) throws Exception {{
  SSLSocketFactory f = (SSLSocketFactory) SSLSocketFactory.getDefault();
  ((SSLSocket) f.createSocket(new Socket("127.0.0.1", 443), "{NAME}", 443, true)).startHandshake(); }} }}
"""
_PYTHON = f"""
import socket, ssl
ssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1", 443)), server_hostname="{NAME}")
"""
_MUSL = "#include <netdb.h>\nint main(int c, char **v) { struct addrinfo *r; return getaddrinfo(v[1], 0, 0, &r); }\n"

HELLOS = {
    "curl": ["curl", "-sm", "3", "--connect-to", "::127.0.0.1:443", f"https://{NAME}/"],
    "curl-no-name": ["curl", "-skm", "3", "https://127.0.0.1/"],
    "openssl": ["openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", NAME],
    "openssl-tls1.2": ["openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:443", "-servername", NAME],
    "openssl-cut": [
        *("openssl", "s_client", "-max_send_frag", "512", "-alpn", "h2," * 200 + "h2"),
        *("-connect", "127.0.0.1:443", "-servername", NAME),
    ],
    "node": ["node", "-e", _NODE],
    "python": [sys.executable, "-c", _PYTHON],
    "java": ["java", "Seed.java"],
}
QUERIES = {
    "glibc": ["getent", "ahosts", NAME],
    "musl": ["./musl", NAME],
    "busybox": ["busybox", "nslookup", NAME, "127.0.0.1"],
    "dig": ["dig", "+tries=1", "+time=1", "@127.0.0.1", NAME, "HTTPS"],
    "dig-dnssec": ["dig", "+dnssec", "+tries=1", "+time=1", "@127.0.0.1", NAME, "AAAA"],
    "dig-reverse": ["dig", "+noedns", "+tries=1", "+time=1", "@127.0.0.1", "-x", "198.18.0.2"],
}


def keep(target: str, name: str, data: bytes) -> None:
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)
    print(f"{target}/{name}: {len(data)} bytes")


def run(words: list[str], directory: str) -> None:
    if not shutil.which(words[0]) and not Path(directory, words[0]).exists():
        print(f"no {words[0]}")
        return
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run(words, cwd=directory, timeout=20, check=False, **silent)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        print(f"{words[0]} was ended")


def hellos(directory: str) -> None:
    """The first flight of each client, up to where it waits for an answer."""
    Path(directory, "Seed.java").write_text(_JAVA)
    with socket.create_server(("127.0.0.1", 443)) as listener:
        for name, words in HELLOS.items():
            client = threading.Thread(target=run, args=(words, directory))
            client.start()
            listener.settimeout(20)
            connection, _ = listener.accept()
            connection.settimeout(1)
            said = b""
            try:
                while data := connection.recv(65536):
                    said += data
            except TimeoutError:
                pass
            connection.close()
            client.join()
            keep("clienthello", name, said)


def queries(directory: str) -> None:
    """The first query of each resolver."""
    Path(directory, "musl.c").write_text(_MUSL)
    run(["musl-gcc", "-static", "-o", "musl", "musl.c"], directory)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        for name, words in QUERIES.items():
            client = threading.Thread(target=run, args=(words, directory))
            client.start()
            server.settimeout(10)
            keep("dns", name, server.recv(65536))
            client.join()
            server.settimeout(0.2)
            try:
                while server.recv(65536):
                    pass
            except TimeoutError:
                pass


def structs() -> None:
    """One event of each kind and reason, and the origins, of a sandbox that tries what is allowed and what is not."""
    calls = (
        "import os, socket as s\n"
        "def attempt(work):\n"
        "    try: work()\n"
        "    except OSError: pass\n"
        "attempt(lambda: s.socket().bind(('0.0.0.0', 4040)))\n"
        "attempt(lambda: s.socket(s.AF_INET6).bind(('::', 80)))\n"
        "attempt(lambda: s.socket(s.AF_INET, s.SOCK_RAW, 1))\n"
        "attempt(lambda: s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 4040)))\n"
        "attempt(lambda: s.socket(s.AF_INET6, s.SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 53)))\n"
        "attempt(lambda: os.open('/dev/tty', os.O_RDWR))\n"
    )
    script = (
        f"curl -sm 3 https://seed.example; curl -sm 3 http://192.0.2.1:81; ls /; perl -e1; LD_PRELOAD=x ls; python3 -c {shlex.quote(calls)}"
    )
    spied = (
        "import sys\n"
        "from stockade.kernel.abi import Event, Origin\n"
        "for kind in (Event, Origin):\n"
        "    def spy(cls, data, real=kind.decode.__func__):\n"
        "        sys.stderr.write(f'SEED {cls.__name__} {data.hex()}\\n')\n"
        "        return real(cls, data)\n"
        "    kind.decode = classmethod(spy)\n"
        "from stockade.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        policy, work = Path(place, "policy.yaml"), Path(place, "work")
        policy.write_text(
            "version: 1\nname: seed\nexec: {allow: [bash, ls, curl, python3], deny: [perl]}\nnetwork:\n"
            "  - {name: seed, binary: {allow: [curl]}, destination: {allow: [seed.example]}, port: [443], tls: passthrough}\n"
        )
        work.mkdir()
        words = [sys.executable, "-c", spied, "run", "--policy", str(policy), "--workdir", str(work), "--audit", f"{place}/audit.jsonl"]
        said = subprocess.run([*words, "--", "bash", "-c", script], capture_output=True, text=True, timeout=120, check=False).stderr
    found: dict[str, bytes] = {}
    for kind, text in re.findall("SEED (Event|Origin) ([0-9a-f]+)\n", said):
        data = bytes.fromhex(text)
        key = (
            f"event/type{data[0]}-why{data[2]}-family{data[3]}" if kind == "Event" else f"origin/{sum('origin' in each for each in found)}"
        )
        found.setdefault(key, data)
    if not found:
        sys.exit(f"the sandbox gave no struct:\n{said}")
    for key, data in found.items():
        target, _, name = key.partition("/")
        keep(target, name, data)


if __name__ == "__main__":
    if "--inside" in sys.argv:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with tempfile.TemporaryDirectory() as scratch:
            resolv = Path(scratch, "resolv.conf")
            resolv.write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
            subprocess.run(["mount", "--bind", str(resolv), str(Path("/etc/resolv.conf").resolve())], check=True)
            hellos(scratch)
            queries(scratch)
            subprocess.run(["umount", str(Path("/etc/resolv.conf").resolve())], check=True)
    else:
        subprocess.run(["unshare", "-nm", sys.executable, __file__, "--inside"], check=True)
        structs()
