"""A host with a GPU: its driver's libraries inside, and model servers that are reached by the addresses their clients have built in.

No GPU is needed. The libraries are made, and the host's loopback is that of a network namespace, so that its ports are free.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import local_models
from framework.local_models import Server
from framework.machine import Machine, Result
from framework.netns import Namespace
from framework.policy import http, whole

PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.client(PYTHON)

DRIVER = """
import ctypes, os
for name in ("libcuda.so.1", "libother.so.1"):
    try: print(name, ctypes.CDLL(name).answer())
    except OSError as error: print(name, "cannot open" if "cannot open" in str(error) else error)
try: open(os.environ["DRIVER"], "ab"); print("written")
except OSError as error: print("not written", error.errno)
"""


@pytest.mark.client(PYTHON, "gcc")
def test_a_drivers_libraries_are_shown_wherever_they_lie(machine: Machine) -> None:
    """By the name that programs load them by, and nothing else of the directory; without the device, not at all."""
    room = machine.room({"driver.py": DRIVER})
    driver = room / "driver"
    driver.mkdir(mode=0o755)
    for name in ("libcuda.so.550", "libother.so.1"):
        (room / "answer.c").write_text("int answer(void) { return 42; }\n")
        soname = name.replace("550", "1")
        subprocess.run(["gcc", "-shared", f"-Wl,-soname,{soname}", "-o", driver / name, room / "answer.c"], check=True)
    (driver / "libcuda.so.1").symlink_to("libcuda.so.550")
    etc = room / "etc"
    etc.mkdir(mode=0o755)
    (room / "ld.so.conf").write_text(f"include /etc/ld.so.conf\n{driver}\n")
    subprocess.run(["ldconfig", "-X", "-f", room / "ld.so.conf", "-C", etc / "ld.so.cache"], check=True, capture_output=True)
    through = ["sh", "-ec", f'mount -t overlay -o lowerdir={etc}:/etc etc /etc; exec "$@"', "sh"]
    said = {}
    for devices in (["nvidia"], []):
        process = {"env": {"DRIVER": str(driver / "libcuda.so.1")}} | ({"devices": devices} if devices else {})
        result = machine.run([PYTHON, "driver.py"], policy=whole(allow=["python3"], process=process), room=room, through=through)
        assert result.status == 0, result
        [started] = result.select(reason="started")
        said[bool(devices)] = result.stdout.splitlines(), started["detail"]["device_libraries"]
        (room / "audit.jsonl").unlink()
    assert said[True] == (["libcuda.so.1 42", "libother.so.1 cannot open", "not written 13"], [str(driver / "libcuda.so.1")])
    assert said[False] == (["libcuda.so.1 cannot open", "libother.so.1 cannot open", "not written 2"], [])


CLIENTS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import ollama, openai
asked = [{"role": "user", "content": "How are you?"}]
def told(what, call):
    try: print(json.dumps([what, call()]), flush=True)
    except Exception as error: print(json.dumps([what, f"{type(error).__name__}: {error}"]), flush=True)
for address in sys.argv[2:]:
    vllm = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=60)
    told(address, lambda: vllm.chat.completions.create(model="plain", messages=asked, max_tokens=4).choices[0].message.role)
    told("stream", lambda: len([1 for _ in vllm.chat.completions.create(model="plain", messages=asked, max_tokens=4, stream=True)]) > 1)
if not os.environ.get("ALONE"):
    # at its own address: nothing says where
    told("ollama", lambda: ollama.chat(model="plain", messages=asked, options={"num_ctx": 512}).message.content)
    told("tags", lambda: type(ollama.list()).__name__)
"""


@pytest.fixture(scope="module")
def site() -> Path:
    try:
        return local_models.clients()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as namespace:
        yield namespace


def within(host: Namespace) -> tuple[str, ...]:
    """A network alone: `ip netns exec` would mount another /sys, without cgroups."""
    return ("nsenter", f"--net=/run/netns/{host.name}")


def run(machine: Machine, site: Path, policy: str, addresses: list[str], **more: object) -> tuple[dict[str, object], Result]:
    room = machine.room({"clients.py": CLIENTS})
    options = ["--bind", f"{site}:ro"]
    environment = ["/usr/bin/env", *(["ALONE=1"] if more.pop("alone", False) else [])]
    words = [*environment, PYTHON, "clients.py", str(site), *addresses]
    result = machine.run(words, policy=policy, room=room, options=options, timeout=120, **more)
    assert result.status == 0, result
    return dict(map(json.loads, result.stdout.splitlines())), result


@pytest.mark.network
def test_model_servers_of_the_host_are_reached_by_their_own_addresses(
    machine: Machine, site: Path, host: Namespace, tmp_path: Path
) -> None:
    """Ollama's API where its client looks for it, llama.cpp's server where vLLM and NIM listen; and no other program gets there."""
    through = within(host)
    urls = ["http://localhost:8000/v1", "http://127.0.0.1:8000/v1"]
    models = http("python3", "localhost", methods=["GET", "POST"], paths=["/api/*", "/v1/**"], name="models")
    policy = whole(models, allow=["env", "python3", "curl"])
    with (
        _served(tmp_path, "llama", ("127.0.0.1", "8000"), through) as llama,
        _served(tmp_path, "ollama", ("127.0.0.1", "11434"), through) as ollama,
    ):
        assert (llama.port, ollama.port) == (8000, 11434)
        answers, result = run(machine, site, policy, urls, through=through)
        others = machine.run(
            "curl -sS -d {} http://127.0.0.1:11434/api/chat http://localhost:8000/v1/models", policy=policy, through=through
        )
        assert [request["path"] for request in ollama.heard()] == ["/api/chat"], "and not curl's"
    assert {answers[url] for url in urls} == {"assistant"} and answers["stream"] is True, result
    assert answers["ollama"] == "You said: How are you?", result
    for port, path, times in ((8000, "/v1/chat/completions", 4), (11434, "/api/chat", 1), (11434, "/api/tags", 1)):
        found = result.select(action="http", decision="allow", host="localhost", port=port, path=path, rule="models")
        assert len(found) == times, result
    assert others.status != 0 and not others.stdout, others
    refused = others.select(action="connect", decision="deny", binary="curl", host="localhost")
    assert {record["destination"]["port"] for record in refused} == {8000, 11434}, others


@pytest.mark.network
def test_a_model_server_at_a_private_address_is_reached_by_its_name(machine: Machine, site: Path, host: Namespace, tmp_path: Path) -> None:
    """A host that a rule names exactly may be private; one that a wildcard covers may not, unless its range is stated."""
    address, name = host.address().v4, "models.gpu.example"
    room = machine.room()
    hosts = room / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} {name}\n{address} other.gpu.example\n")
    through = ["sh", "-ec", f'mount --bind {hosts} /etc/hosts; exec "$@"', "sh"]
    urls = [f"http://{host}:8000/v1" for host in (name, address, "other.gpu.example")]
    common: dict[str, Any] = {"methods": ["POST"], "paths": ["/v1/**"], "port": [8000]}
    exact = http("python3", name, address, name="models", **common)
    with _served(tmp_path, "llama", (address, "8000"), within(host)):
        answers, result = run(machine, site, whole(exact, allow=["env", "python3"]), urls, through=through, alone=True)
        assert (answers[urls[0]], answers[urls[1]]) == ("assistant", "assistant") and "Connection error" in str(answers[urls[2]]), result
        for each in (name, address):
            found = result.select(action="http", decision="allow", host=each, port=8000, path="/v1/chat/completions", status=200)
            assert len(found) == 2, result
        assert result.select(action="dns", decision="deny", host="other.gpu.example"), result
        wild = http("python3", "*.gpu.example", name="models", **common)
        answers, result = run(machine, site, whole(wild, allow=["env", "python3"]), urls[:1], through=through, alone=True)
        assert "assistant" not in str(answers[urls[0]]), result
        assert result.select(action="http", effect="refuse", reason="address_refused", host=name), result


def _served(directory: Path, what: str, where: tuple[str, ...], through: tuple[str, ...]) -> Server:
    try:
        return local_models.llama(directory, where, through) if what == "llama" else local_models.strict(what, directory, where, through)
    except RuntimeError as error:
        pytest.skip(str(error))
