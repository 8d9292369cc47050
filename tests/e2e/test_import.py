"""Policies of OpenShell's, imported by the command and then held, live."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from framework.internet import ECHO, GIT, OTHER, Internet
from framework.machine import STOCKADE, Machine
from framework.packages import PACKAGE

READ_ONLY = f"""\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /etc]
  read_write: [/sandbox, /tmp, /dev/null]
landlock: {{compatibility: best_effort}}
network_policies:
  echo:
    name: echo
    endpoints:
      - host: {ECHO}
        port: 443
        protocol: rest
        enforcement: enforce
        access: read-only
    binaries:
      - {{path: /usr/bin/curl}}
"""


def imported(directory: Path, text: str, status: int = 0) -> str:
    """The policy that `stockade policy import` prints."""
    file = directory / "openshell.yaml"
    file.write_text(text)
    result = subprocess.run([STOCKADE, "policy", "import", file], capture_output=True, text=True, check=False)
    assert result.returncode == status, result
    return result.stdout


@pytest.mark.client("/usr/bin/curl")
def test_read_only_reads_and_refuses_to_write(machine: Machine, internet: Internet, tmp_path: Path) -> None:
    script = "\n".join(
        [
            *(
                f"curl -sS -o /dev/null -w '%{{http_code}}\\n' {option} https://{ECHO}/v1/items"
                for option in ("", "--head", "-X OPTIONS", "-X POST", "-X PUT", "-X DELETE")
            ),
            f"curl -sS https://{OTHER}/ || echo $?",
        ]
    )
    before = len(internet.nginx.requests(server=ECHO))
    policy = imported(tmp_path, READ_ONLY) + "\nexec: {allow: [sh, /usr/bin/curl]}\n"
    result = machine.run(["sh", "-c", script], policy=policy)
    assert result.stdout.split() == ["200", "200", "200", "403", "403", "403", "6"], result
    for method, decision, status in (("GET", "allow", 200), ("HEAD", "allow", 200), ("POST", "deny", 403), ("DELETE", "deny", 403)):
        [record] = result.select(action="http", method=method, host=ECHO, path="/v1/items")
        assert (record["decision"], record["http"]["status"], record["rule"], record["enforced"]) == (decision, status, "echo", True)
    assert result.select(action="http", method="POST", level="method", reason="no_rule", binary_path="/usr/bin/curl"), result
    assert result.select(action="dns", decision="deny", host=OTHER), result
    assert [seen["method"] for seen in internet.nginx.requests(server=ECHO)[before:]] == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.client("/usr/bin/curl")
def test_what_theirs_would_only_log_is_refused(machine: Machine, tmp_path: Path) -> None:
    text = READ_ONLY.replace("enforcement: enforce", "enforcement: audit")
    result = machine.run(f"curl -sS -o /dev/null -w %{{http_code}} -X POST https://{ECHO}/", policy=imported(tmp_path, text, status=1))
    assert result.stdout == "403", result


FETCH_ONLY = f"""\
version: 1
network_policies:
  code:
    endpoints:
      - host: {GIT}
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {{method: GET, path: "/**/info/refs"}}
          - allow: {{method: POST, path: "/**/git-upload-pack"}}
    binaries:
      - {{path: /usr/bin/git}}
"""


HELPER = "/usr/lib/git-core/git-remote-https"


@pytest.mark.client("/usr/bin/git")
def test_git_fetches_through_its_helper_which_nobody_else_may_start(machine: Machine, tmp_path: Path) -> None:
    url = f"https://{GIT}/{PACKAGE}.git"
    script = f"git clone -q {url} tiny && cat tiny/README; git -C tiny push -q {url} main; echo list | {HELPER} x {url}"
    policy = imported(tmp_path, FETCH_ONLY) + "\nexec: {allow: [sh, coreutils, git]}\n"
    result = machine.run(["sh", "-c", script], policy=policy)
    assert "hello from stockade-tiny" in result.stdout, result
    assert result.select(action="http", decision="allow", method="POST", path=f"/{PACKAGE}.git/git-upload-pack"), result
    assert not result.select(action="http", decision="allow", path=f"/{PACKAGE}.git/git-receive-pack"), result
    refused = result.select(action="dns", decision="deny", binary="git", host=GIT)
    assert refused, result
    assert all("/usr/bin/git" not in record["ancestry"] for record in refused), result
