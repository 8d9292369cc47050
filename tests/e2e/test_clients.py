"""Real clients, as they come, told of no proxy and no certificate: each reaches what its rule allows, and is on record with it."""

from __future__ import annotations

import json

import pytest

from framework import packages
from framework.internet import ECHO, GIT, NPM, PYPI, Internet
from framework.machine import Machine, Result
from framework.policy import bare, http, whole
from framework.programs import Programs


def served(result: Result, **expected: object) -> None:
    """The command succeeded, and its request is on record as allowed by this rule and answered with 200."""
    assert result.status == 0, result
    assert result.select(action="http", decision="allow", status=200, **expected), result


@pytest.mark.client("curl")
@pytest.mark.parametrize("family", ["--ipv4", "--ipv6"])
def test_curl(machine: Machine, family: str) -> None:
    result = machine.run(f"curl -sS {family} https://{ECHO}/page?q=1", policy=bare(http("curl", ECHO)))
    served(result, binary="curl", host=ECHO, port=443, method="GET", path="/page", rule="curl-echo", level="path")
    assert json.loads(result.stdout)["path"] == "/page?q=1"


@pytest.mark.client("curl")
def test_the_query_is_sent_but_not_recorded(machine: Machine) -> None:
    result = machine.run(f"curl -sS https://{ECHO}/page?token=sesame", policy=bare(http("curl", ECHO)))
    served(result, path="/page")
    assert "sesame" in result.stdout
    assert "sesame" not in result.audit.read_text()


@pytest.mark.client("curl")
def test_curl_over_plain_http(machine: Machine) -> None:
    result = machine.run(f"curl -sS http://{ECHO}/page", policy=bare(http("curl", ECHO)))
    served(result, binary="curl", host=ECHO, port=80, method="GET", path="/page")


@pytest.mark.client("/usr/bin/python3")
def test_requests(machine: Machine) -> None:
    code = f"import requests; r = requests.get('https://{ECHO}/page'); print(r.status_code, r.json()['server'])"
    result = machine.run(["/usr/bin/python3", "-c", code], policy=bare(http("python3", ECHO)))
    served(result, binary="python3", host=ECHO, path="/page")
    assert result.stdout.split() == ["200", ECHO]


@pytest.mark.client("/usr/bin/python3")
def test_raw_python_sockets(machine: Machine, inside: dict[str, str]) -> None:
    result = machine.run(f"/usr/bin/python3 crowd.py 1 2 {ECHO}:80", policy=bare(http("python3", ECHO)), files=inside)
    served(result, binary="python3", host=ECHO, port=80)
    assert json.loads(result.stdout) == {"right": 2, "wrong": [], "wrong_count": 0}


@pytest.mark.client("node")
def test_node_fetch(machine: Machine) -> None:
    code = f"fetch('https://{ECHO}/page').then(async r => console.log(r.status, (await r.json()).server))"
    result = machine.run(["node", "-e", code], policy=bare(http("node", ECHO)))
    served(result, binary="node", host=ECHO, path="/page")
    assert result.stdout.split() == ["200", ECHO]


@pytest.mark.client("java", "javac")
def test_java_http_client(machine: Machine, programs: Programs) -> None:
    policy = whole(http("java", ECHO), allow=["java"], filesystem={"read": [str(programs.directory)]})
    result = machine.run(["java", "-Xint", "-cp", programs.java(), "Fetch", f"https://{ECHO}/page"], policy=policy)
    served(result, binary="java", host=ECHO, path="/page")
    assert result.stdout.startswith("200 HTTP_2 ")


@pytest.mark.client("gcc")
def test_a_static_binary(machine: Machine, programs: Programs) -> None:
    program = programs.c("get-static", "gcc", "-static", "-Wl,--no-warnings")
    result = machine.run([program, ECHO, "80", "/page"], policy=bare(http(str(program), ECHO)))
    served(result, host=ECHO, port=80, path="/page", binary_path=str(program))
    assert f'"server":"{ECHO}"' in result.stdout


@pytest.mark.client("musl-gcc")
def test_a_musl_binary(machine: Machine, programs: Programs) -> None:
    program = programs.c("get-musl", "musl-gcc", "-static")
    result = machine.run([program, ECHO, "80", "/page"], policy=bare(http(str(program), ECHO)))
    served(result, host=ECHO, port=80, path="/page", binary_path=str(program))
    assert f'"server":"{ECHO}"' in result.stdout


@pytest.mark.client("pip")
def test_pip_installs(machine: Machine) -> None:
    result = machine.run(
        f"/usr/bin/pip --isolated --no-cache-dir install --target site --index-url https://{PYPI}/simple {packages.PACKAGE}",
        policy=bare(http("pip", PYPI)),
        room=(room := machine.room()),
    )
    served(result, binary="pip", host=PYPI, path=f"/simple/{packages.PACKAGE}/")
    served(result, binary="pip", host=PYPI, path="/packages/stockade_tiny-1.0-py3-none-any.whl")
    assert packages.GREETING in (room / "work/site/stockade_tiny.py").read_text()


@pytest.mark.client("npm", "node")
def test_npm_installs(machine: Machine) -> None:
    result = machine.run(
        f"npm install --registry https://{NPM} {packages.PACKAGE}", policy=bare(http("npm", NPM)), room=(room := machine.room())
    )
    served(result, binary="npm", host=NPM, path=f"/{packages.PACKAGE}")
    served(result, binary="npm", host=NPM, path=f"/{packages.PACKAGE}/-/{packages.PACKAGE}-1.0.0.tgz")
    assert packages.GREETING in (room / "work/node_modules" / packages.PACKAGE / "index.js").read_text()


@pytest.mark.client("git")
def test_git_clones_over_https(machine: Machine, internet: Internet) -> None:
    before = len(internet.git.paths)
    result = machine.run(
        f"git clone -q https://{GIT}/{packages.PACKAGE}.git",
        policy=bare(http("git", GIT, methods=["GET", "POST"])),
        room=(room := machine.room()),
    )
    served(result, binary="git", host=GIT, method="POST", path=f"/{packages.PACKAGE}.git/git-upload-pack")
    assert (room / "work" / packages.PACKAGE / "README").read_text().strip() == packages.GREETING
    assert len(internet.git.paths) > before
