"""Whole pieces of an agent's work, with the programs that agents use: they do not notice the sandbox, or they say what it refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from framework.internet import ECHO
from framework.machine import Machine
from framework.policy import http, whole

CLI = "@google/gemini-cli@0.61.0"  # Apache-2.0; one bundle without dependencies
MODELS = "generativelanguage.googleapis.com"

BUILD = """
set -e
python3 -m venv --system-site-packages v
cat > setup.py <<END
from setuptools import Extension, setup
setup(name="tiny", version="1", ext_modules=[Extension("tiny", ["tiny.c"])])
END
cat > tiny.c <<END
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tiny", "", -1, methods};
PyMODINIT_FUNC PyInit_tiny(void) { return PyModule_Create(&module); }
END
v/bin/pip wheel -q --no-build-isolation --no-index -w dist .
v/bin/pip install -q --no-index dist/*.whl
printf 'import tiny\\ndef test_it():\\n    assert tiny.answer() == 42\\n' > test_tiny.py
v/bin/python -m pytest -q test_tiny.py
"""


@pytest.mark.client("gcc", "/usr/bin/pytest-3")
def test_a_native_wheel_is_built_installed_and_tested(machine: Machine) -> None:
    policy = whole(allow=["sh", "coreutils", "python3"], exec={"writable": True, "unlisted": "no-network"})
    result = machine.run(["sh", "-c", BUILD], policy=policy, timeout=180)
    assert result.status == 0 and "1 passed" in result.stdout, result
    assert not result.select(decision="deny", action="exec"), result


AGENT = """
import json, subprocess, sys, urllib.error, urllib.request

ECHO = "https://%s/"
history = []
for step, tool in enumerate(["git init -q repository", "ls -a repository", "grep -r nothing repository || true"]):
    done = subprocess.run(["sh", "-c", tool], capture_output=True, text=True)
    body = json.dumps({"step": step, "history": history, "result": done.stdout}).encode()
    with urllib.request.urlopen(urllib.request.Request(ECHO + "v1/think", body, {"content-type": "application/json"})) as answer:
        history.append([tool, done.returncode, answer.status])
try:
    urllib.request.urlopen(urllib.request.Request(ECHO + "v1/forget", b"{}"))
except urllib.error.HTTPError as refusal:
    history.append(json.load(refusal))
print(json.dumps(history))
"""


@pytest.mark.client("/usr/bin/python3", "git")
def test_an_agents_loop_of_thinking_and_tools(machine: Machine) -> None:
    rule = http("python3", ECHO, name="think", methods=["POST"], paths=["/v1/think"])
    policy = whole(rule, allow=["sh", "coreutils", "python3", "git", "grep"])
    result = machine.run(["/usr/bin/python3", "agent.py"], policy=policy, files={"agent.py": AGENT % ECHO})
    assert result.status == 0, result
    *steps, refusal = json.loads(result.stdout)
    assert [(code, status) for _, code, status in steps] == [(0, 200)] * 3, result
    assert (refusal["level"], refusal["rule"], refusal["path"]) == ("path", "think", "/v1/forget"), result
    assert len(result.select(action="http", decision="allow", path="/v1/think", status=200)) == 3, result
    assert len(result.select(action="http", decision="deny", path="/v1/forget", status=403)) == 1, result


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real agent's command line, as npm installs it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is missing")
    room = tmp_path_factory.mktemp("cli")
    room.chmod(0o755)
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--omit=optional", "--prefix", str(room), CLI]
    done = subprocess.run(install, cwd=room, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch {CLI}: {done.stderr.strip()[-200:]}")
    return room


@pytest.mark.network
@pytest.mark.client("node")
def test_a_real_agent_starts_and_reads_why_it_was_refused(machine: Machine, cli: Path) -> None:
    policy = whole(
        http("node", MODELS, name="models-are-listed"),
        allow=["node", "sh", "coreutils"],
        process={"env": {"GEMINI_API_KEY": "none", "GEMINI_CLI_TRUST_WORKSPACE": "true"}},
    )
    program = "/opt/cli/node_modules/@google/gemini-cli/bundle/gemini.js"
    result = machine.run(["node", program, "-p", "hello"], policy=policy, options=["--bind", f"{cli}:/opt/cli:ro"], timeout=120)
    assert "the policy denies this request" in result.stderr and '"level":"method","rule":"models-are-listed"' in result.stderr, result
    refused = result.select(action="http", host=MODELS, method="POST", decision="deny", level="method", rule="models-are-listed")
    assert refused and not result.select(action="http", decision="allow"), result
    assert result.select(action="dns", decision="deny"), result  # its telemetry is not in the policy
