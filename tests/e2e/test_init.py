"""`stockade init` as somebody uses it on a fresh machine: at a terminal, and in a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from framework.machine import STOCKADE, Machine
from framework.netns import Namespace
from framework.terminal import Terminal
from stockade.policy import load

# Ollama's list of models, as its API has it; the port is the one that Ollama has unless it is told otherwise
OLLAMA = """
import http.server, json
class Tags(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"models": [{"name": "nemotron-mini:latest"}, {"name": "qwen3:8b"}]}).encode()
        self.send_response(200 if self.path == "/api/tags" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", 11434), Tags).serve_forever()
"""


def init(*words: str | Path, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*through, STOCKADE, "init", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "invoice-bot"
    (directory / ".git").mkdir(parents=True)
    (directory / ".git/config").write_text('[remote "origin"]\n\turl = git@github.com:example/invoice-bot.git\n')
    (directory / "pyproject.toml").touch()
    return directory


def test_without_a_question_it_writes_a_policy_and_shows_it_at_work(project: Path) -> None:
    done = init("--project", project, "--agent", "claude", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["policy"] == str(project.parent / "invoice-bot.yaml")
    assert told["presets"] == ["anthropic", "pypi", "github"], "the model's, and what the project is made of"
    allowed, refused = told["trial"]
    assert (allowed["method"], allowed["status"], allowed["record"]["decision"]) == ("GET", 200, "allow")
    assert (refused["method"], refused["status"], refused["record"]["decision"]) == ("POST", 403, "deny")
    assert (refused["record"]["level"], refused["record"]["binary"]["name"]) == ("method", "curl")
    written = load([Path(told["policy"])])
    assert {"claude", "git", "sh"} <= set(written.exec.allow)
    assert written.privacy is not None and written.privacy.mode == "audit", "nothing local to hold anything back for"


def test_the_command_that_it_ends_with_starts(project: Path, machine: Machine) -> None:
    told = json.loads(init("--project", project, "--agent", "none", "--router", "off", "--yes", "--no-trial", "-o", "json").stdout)
    assert told["trial"] is None and load([Path(told["policy"])]).privacy is None
    sudo, stockade, *words = told["command"]
    assert (sudo, stockade, words[-1]) == ("sudo", "stockade", "bash")
    audit = project.parent / "audit.jsonl"
    command = [STOCKADE, words[0], "--audit", audit, *words[1:], "-c", "ls -a; cat ../invoice-bot.yaml"]
    done = subprocess.run(machine.wrap(command), capture_output=True, text=True, timeout=60)
    assert ".git" in done.stdout.split() and "No such file" in done.stderr, "the project is there, its policy is not"


def test_at_a_terminal_it_asks_and_takes_what_is_chosen(project: Path) -> None:
    with Namespace() as apart:
        apart.spawn([sys.executable, "-c", OLLAMA], stderr=subprocess.DEVNULL)
        within = ("nsenter", f"--net=/run/netns/{apart.name}")  # not `ip netns exec`, which mounts another /sys
        subprocess.run(
            [*within, "sh", "-c", "until curl -s 127.0.0.1:11434/api/tags >/dev/null; do sleep 0.1; done"], check=True, timeout=30
        )
        with Terminal([*within, str(STOCKADE), "init", "--agent", "none"], project) as screen:
            screen.wait_for("http://localhost:11434 serves nemotron-mini:latest, qwen3:8b (ollama)", 60)
            screen.wait_for("[pypi github] ")
            screen.type("pypi cargoo\n")
            screen.wait_for("not known: cargoo")
            screen.wait_for("[pypi github] ")
            screen.type("pypi cargo\n")
            screen.wait_for("[Y/n] ")
            screen.type("\n")
            screen.wait_for("2) qwen3:8b")
            screen.wait_for("[1] ")
            screen.type("7\n")
            screen.wait_for("a number from 1 to 2")
            screen.type("2\n")
            screen.wait_for("-> 200: hello from the host", 60)
            screen.wait_for('-> 403: {"error"')
            screen.wait_for("http deny, by curl, level method, no_rule")
            screen.wait_for("sudo stockade run --policy")
            assert screen.finish() == 0
    written = load([project.parent / "invoice-bot.yaml"])
    assert written.privacy is not None and written.privacy.local is not None
    assert written.privacy.mode == "enforce"
    text = (project.parent / "invoice-bot.yaml").read_text()
    assert "presets/cargo" in text and "presets/github" not in text
    assert "url: http://localhost:11434" in text and "model: qwen3:8b" in text


def test_whoever_listens_where_models_are_expected_writes_nothing_on_the_terminal(project: Path) -> None:
    """Any user of the machine can: with names that move a cursor, and with a list that never ends."""
    hostile = OLLAMA.replace('"qwen3:8b"', '"\\x1b[2J\\x1b]0;owned\\x07"')
    endless = OLLAMA.replace("11434", "8000").replace("self.wfile.write(body)", "[self.wfile.write(b'[' * 65536) for _ in iter(int, 1)]")
    endless = endless.replace("/api/tags", "/v1/models").replace('self.send_header("Content-Length", str(len(body)))', "pass")
    with Namespace() as apart:
        for server in (hostile, endless):
            apart.spawn([sys.executable, "-c", server], stderr=subprocess.DEVNULL)
        within = ("nsenter", f"--net=/run/netns/{apart.name}")
        subprocess.run([*within, "sh", "-c", "until curl -sm1 127.0.0.1:11434/api/tags; do sleep 0.1; done"], check=True, timeout=30)
        done = init("--project", project, "--agent", "none", "--yes", "--no-trial", through=within)
    assert done.returncode == 0, done.stderr
    assert "serves nemotron-mini:latest (ollama)" in done.stderr
    assert "\x1b" not in done.stderr + (project.parent / "invoice-bot.yaml").read_text()
    assert "8000" not in done.stderr


def test_a_link_is_replaced_and_not_written_through(project: Path) -> None:
    elsewhere = project.parent / "elsewhere"
    elsewhere.write_text("another's")
    policy = project.parent / "invoice-bot.yaml"
    policy.symlink_to(elsewhere)
    words = ("--project", project, "--agent", "none", "--yes", "--no-trial")
    assert "[exists]" in init(*words).stderr
    assert init(*words, "--force").returncode == 0
    assert elsewhere.read_text() == "another's" and not policy.is_symlink()


def test_a_file_beside_the_project_may_be_named_from_inside_it(project: Path) -> None:
    (project / "out").symlink_to(project.parent, target_is_directory=True)
    for name in ("../first.yaml", "out/second.yaml"):
        done = init("--project", project, "--agent", "none", "--yes", "--no-trial", "--policy", project / name)
        assert done.returncode == 0, done.stderr
        assert f"written: {(project / name).resolve()}" in done.stderr
    (project.parent / "in").symlink_to(project, target_is_directory=True)
    done = init("--project", project, "--agent", "none", "--yes", "--no-trial", "--policy", project.parent / "in" / "third.yaml")
    assert (done.returncode, "[inside]" in done.stderr, list(project.glob("*.yaml"))) == (2, True, [])


def test_what_is_there_is_not_written_over_unless_told(project: Path) -> None:
    words = ("--project", project, "--agent", "none", "--yes", "--no-trial")
    assert init(*words).returncode == 0
    policy = project.parent / "invoice-bot.yaml"
    policy.write_text("mine")
    done = init(*words)
    assert (done.returncode, "[exists]" in done.stderr, policy.read_text()) == (2, True, "mine")
    assert init(*words, "--force").returncode == 0
    assert policy.read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--yes", "--agent", "clippy"), "no_agent"),
        (("--yes", "--preset", "everything"), "no_preset"),
        (("--yes", "--policy", "inside.yaml"), "inside"),
        ((), "no_terminal"),
    ],
)
def test_what_cannot_be_done_says_why_and_writes_nothing(project: Path, words: tuple[str, ...], code: str) -> None:
    words = tuple(str(project / word) if word.endswith(".yaml") else word for word in words)
    done = init("--project", project, "--no-trial", *words)
    assert done.returncode == 2 and f"[{code}]" in done.stderr and "hint:" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(project.parent.rglob("*.yaml"))
