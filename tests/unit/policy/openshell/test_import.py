"""What an import carries over, what it leaves out and says so, and the verb."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

import pytest

from stockade.cli import main
from stockade.policy import Policy, PolicyError, decide, load, normalise_host
from stockade.policy.making import openshell
from stockade.policy.making.openshell import Imported, import_file
from stockade.policy.making.writing import as_json, as_yaml
from stockade.types import Binary, Request, StockadeError


@dataclass(frozen=True, slots=True)
class Outcome:
    imported: Imported
    policy: Policy

    @property
    def codes(self) -> list[str]:
        return [f"{loss.kind} {loss.code}" for loss in self.imported.losses]

    def allows(self, method: str, url: str, binary: str = "/usr/bin/tool") -> bool:
        host, _, path = url.partition("/")
        name, _, port = host.partition(":")
        asked = Request(Binary.named(binary), normalise_host(name), int(port or 443), method, "/" + path)
        return decide(asked, self.policy).allowed


Carry = Callable[..., Outcome]


@pytest.fixture
def carry(tmp_path: Path) -> Carry:
    """Imports a whole document, or endpoints of one entry."""

    def read(text: str, *, binaries: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> Outcome:
        file, ours = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
        text = dedent(text)
        if text.startswith("- "):
            text = (
                f"version: 1\nnetwork_policies:\n  api:\n    endpoints:\n{indent(text, '      ')}    binaries: [{{path: /usr/bin/tool}}]\n"
            )
        file.write_text(text)
        imported = import_file(file, binaries=binaries, hosts=hosts)
        ours.write_text(as_yaml(imported.policy))
        return Outcome(imported, load([ours]))

    return read


REST = "- {host: api.example.com, port: 443, protocol: rest, enforcement: enforce, "


@pytest.mark.parametrize(
    ("access", "passing"),
    [
        ("read-only", {"GET", "HEAD", "OPTIONS"}),
        ("read-write", {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"}),
        ("full", {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}),
    ],
)
def test_access(carry: Carry, access: str, passing: set[str]) -> None:
    found = carry(REST + f"access: {access}}}\n")
    asked = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND")
    assert {method for method in asked if found.allows(method, "api.example.com/v1/x")} == passing
    assert found.codes == (["narrowed methods_listed"] if access == "full" else [])
    assert not found.allows("GET", "api.example.com:8443/v1/x")
    assert not found.allows("GET", "api.example.com/v1/x", "/usr/bin/other")


def test_rules_are_pairs_of_method_and_path_and_stay_pairs(carry: Carry) -> None:
    found = carry(
        REST + "rules: [{allow: {method: GET, path: /a}}, {allow: {method: POST, path: /b}}, {allow: {method: get, path: /c/**}}]}\n"
    )
    asked = [f"{method} {path}" for method in ("GET", "HEAD", "POST") for path in ("/a", "/b", "/c/d")]
    passing = [each for each in asked if found.allows(each.split()[0], "api.example.com" + each.split()[1])]
    assert passing == ["GET /a", "GET /c/d", "HEAD /a", "HEAD /c/d", "POST /b"]
    assert found.codes == []


def test_a_path_with_an_encoded_slash_is_refused_unless_it_was_not(carry: Carry) -> None:
    assert not carry(REST + "access: read-only}\n").allows("GET", "api.example.com/a%2Fb")
    assert carry(REST + "access: read-only, allow_encoded_slash: true}\n").allows("GET", "api.example.com/a%2Fb")


@pytest.mark.parametrize(
    ("endpoint", "codes"),
    [
        (REST + "rules: [{allow: {method: GET, path: /a, query: {q: x}}}]}", ["left_out condition"]),
        (REST + "rules: [{allow: {operation_type: query}}]}", ["left_out condition"]),
        (REST + "rules: [{allow: {method: GET, path: /a}, when: {day: monday}}]}", ["left_out condition"]),
        (REST + "rules: [{allow: {method: GET, path: '/a?c'}}]}", ["left_out path"]),
        (REST + "rules: [{allow: {method: GET}}]}", ["left_out incomplete"]),
        (REST + "rules: [{allow: {method: CONNECT, path: /a}}]}", ["left_out method"]),
        (REST + "access: read-only, path: '/*/x', rules: [{allow: {method: GET, path: /b}}]}", ["left_out endpoint"]),
        (REST + "rules: [{allow: {method: GET, path: /b}}], path: /a/**}", ["left_out scope"]),
        (REST + "access: read-only, colour: blue}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: graphql, access: full}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: mcp, mcp: {allow_all_known_mcp_methods: true}}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: json-rpc, rules: [{allow: {method: '*'}}]}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: sql}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: websocket, access: read-only}", ["left_out endpoint"]),
        ("- {host: api.example.com, port: 443, protocol: websocket, rules: [{allow: {operation_type: query}}]}", ["left_out endpoint"]),
        (
            "- {host: api.example.com, port: 443, protocol: websocket, enforcement: enforce, rules: [{allow: {method: GET, path: /x}}]}",
            ["left_out websocket"],
        ),
        ("- {host: '*.example.com', port: 443}", ["left_out host_pattern"]),
        ("- {host: 'a-*.example.com', port: 443}", ["left_out host_pattern"]),
        ("- {host: '**.com', port: 443}", ["left_out host"]),
        ("- {host: localhost, port: 443}", ["left_out host"]),
        ("- {host: 127.0.0.1, port: 443}", ["left_out host"]),
        ("- {host: '2130706433', port: 443}", ["left_out host"]),
        ("- {host: host.openshell.internal, port: 11434}", ["left_out host"]),
        ("- {port: 443, allowed_ips: [10.0.0.0/8]}", ["left_out no_host"]),
        ("- {host: api.example.com}", ["left_out no_port"]),
        ("- {host: api.example.com, port: 443, allowed_ips: [ten]}", ["left_out allowed_ips"]),
    ],
)
def test_what_cannot_be_said_is_left_out(carry: Carry, endpoint: str, codes: list[str]) -> None:
    found = carry(endpoint + "\n")
    assert found.codes == codes
    assert found.policy.rules == ()
    [loss] = found.imported.losses
    assert loss.place.line > 1
    assert f"line {loss.place.line}: left out: {loss.message} [{loss.code}]" in as_yaml(found.imported.policy)


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("- {host: api.example.com, port: 443, protocol: rest, access: read-only}", "enforced"),
        ("- {host: api.example.com, port: 443, protocol: rest, access: read-only, enforcement: audit}", "enforced"),
        (REST + "access: read-only, tls: skip}", "inspected"),
        ("- {host: api.example.com, port: 443, enforcement: enforce, access: read-only}", "held"),
    ],
)
def test_what_was_not_held_there_is_held_here(carry: Carry, endpoint: str, code: str) -> None:
    found = carry(endpoint + "\n")
    assert found.codes == [f"narrowed {code}"]
    assert found.allows("GET", "api.example.com/x")
    assert not found.allows("POST", "api.example.com/x")


def test_without_protocol_nobody_looks_inside(carry: Carry) -> None:
    found = carry("- {host: api.example.com, ports: [443, 5432]}\n- {host: '**.cdn.example.com', port: 8443, tls: skip, access: full}\n")
    relayed = [(rule.destination.allow[0].text, rule.ports, rule.tls, rule.protocol) for rule in found.policy.rules]
    assert relayed == [
        ("api.example.com", (443,), "passthrough", "http"),
        ("api.example.com", (5432,), "inspect", "tcp"),
        ("*.cdn.example.com", (8443,), "passthrough", "http"),
    ]
    assert found.codes == []


def test_a_star_in_a_host_is_the_hosts_that_are_given_and_covered(carry: Carry) -> None:
    hosts = ("a.example.com", "b.a.example.com", "a-1.example.org", "x.example.org")
    found = carry("- {host: '*.example.com', port: 443}\n- {host: 'a-*.example.org', port: 443}\n", hosts=hosts)
    assert [rule.destination.allow[0].text for rule in found.policy.rules] == ["a.example.com", "a-1.example.org"]
    assert found.codes == ["narrowed hosts_given"] * 2


def test_allowed_ips_bound_where_the_host_may_lie(carry: Carry) -> None:
    found = carry("- {host: db.example.com, port: 5432, protocol: tcp, allowed_ips: [10.1.2.3/8, 192.168.1.7]}\n")
    assert [str(network) for network in found.policy.rules[0].destination.addresses] == ["10.0.0.0/8", "192.168.1.7/32"]


def test_denials(carry: Carry) -> None:
    found = carry(
        REST
        + """access: read-write, deny_rules: [
            {method: PUT, path: '**'}, {method: '*', path: '/admin/*'}, {method: POST, path: /pulls, query: {q: x}}]}
        """
    )
    assert found.codes == ["narrowed condition", "narrowed deny_any_method"]
    assert not found.allows("PUT", "api.example.com/x")
    assert not found.allows("GET", "api.example.com/admin/a/b")
    assert not found.allows("POST", "api.example.com/pulls")
    assert not found.allows("GET", "api.example.com/pulls")  # a denied path is denied for every method here: said
    assert found.allows("GET", "api.example.com/pull")


def test_a_denial_reaches_every_rule_for_its_host(carry: Carry) -> None:
    """There it holds for whatever the other binary started, and also where its own endpoint cannot be carried over."""
    found = carry(
        """\
        version: 1
        network_policies:
          one:
            endpoints: [{host: api.example.com, port: 443, protocol: rest, enforcement: enforce, access: read-only}]
            binaries: [{path: /usr/bin/tool}]
          two:
            endpoints:
              - {host: '*.example.com', port: 443, protocol: rest, access: full, deny_rules: [{method: GET, path: /secret/**}]}
            binaries: [{path: /usr/bin/other}]
        """
    )
    assert not found.allows("GET", "api.example.com/secret/x")
    assert found.allows("GET", "api.example.com/public")


def test_what_looks_into_bodies_keeps_its_paths_from_others(carry: Carry) -> None:
    graphql = "- {host: api.example.com, port: 443, protocol: graphql, access: full"
    found = carry(REST + "access: full}\n" + graphql + ", path: /graphql}\n")
    assert found.allows("POST", "api.example.com/x")
    assert not found.allows("POST", "api.example.com/graphql")
    assert carry(REST + "access: full}\n" + graphql + "}\n").policy.rules == ()


def test_relaying_does_not_go_around_an_inspected_endpoint(carry: Carry) -> None:
    found = carry("- {host: api.example.com, port: 443}\n- {host: '*.example.com', port: 443, protocol: rest, access: read-only}\n")
    assert found.policy.rules == ()
    assert "left_out overlap" in found.codes


def test_a_middleware_would_have_changed_or_refused_it(carry: Carry) -> None:
    found = carry(
        """\
        version: 1
        network_policies:
          api:
            endpoints: [{host: api.example.com, port: 443}, {host: api.example.org, port: 443}]
            binaries: [{path: /usr/bin/tool}]
        network_middlewares:
          redact: {middleware: x/regex, order: 1, endpoints: {include: ["*.example.com"]}}
        """
    )
    assert [rule.destination.allow[0].text for rule in found.policy.rules] == ["api.example.org"]
    assert found.codes == ["left_out middleware"]


@pytest.mark.parametrize("path", ["/**", "/opt/**", "tool", "/usr/bin/too[l]", "/usr/../bin/tool", "/*/tool"])
def test_a_binary_that_stands_for_many_is_left_out(carry: Carry, path: str) -> None:
    text = f"version: 1\nnetwork_policies: {{api: {{endpoints: [{{host: a.example.com, port: 443}}], binaries: [{{path: '{path}'}}]}}}}\n"
    found = carry(text)
    assert found.policy.rules == ()
    assert found.codes == ["left_out binary"]


def test_git_is_carried_over_with_what_it_starts(carry: Carry) -> None:
    """Its own https helper, and only when git started it."""
    endpoint = "{host: git.example.com, port: 443, protocol: rest, enforcement: enforce, access: read-only}"
    found = carry(f"version: 1\nnetwork_policies: {{code: {{endpoints: [{endpoint}], binaries: [{{path: /usr/bin/git}}]}}}}\n")
    helper = Binary("git", frozenset({"git"}), "/usr/lib/git-core/git-remote-https")
    for ancestors, allowed in ((("/usr/bin/git", "/usr/bin/bash"), True), (("/usr/bin/bash",), False), ((), False)):
        asked = Request(helper, "git.example.com", 443, "GET", "/x.git/info/refs", ancestors)
        assert decide(asked, found.policy).allowed is allowed
    assert [rule.name for rule in found.policy.rules] == ["code", "code-git-helpers"]
    assert found.codes == []


PRESET = """\
    preset: {name: tickets, description: read and write tickets}
    network_policies:
      tickets:
        endpoints:
          - host: tickets.example.com
            port: 443
            protocol: rest
            enforcement: enforce
            tls: terminate
            rules:
              - allow: {method: GET, path: "/**"}
              - allow: {method: POST, path: "/**"}
"""


def test_a_preset_without_binaries_needs_one(carry: Carry) -> None:
    assert carry(PRESET).codes == ["left_out no_binaries"]
    found = carry(PRESET, binaries=("node",))
    assert found.codes == ["narrowed binaries_given"]
    assert found.policy.name == "tickets"
    assert found.allows("POST", "tickets.example.com/x", "node")
    assert not found.allows("DELETE", "tickets.example.com/x", "node")


@pytest.mark.parametrize("binary", ["**", "/*", "/usr/bin/*", "../x", "a b", ""])
def test_a_given_binary_is_one(carry: Carry, binary: str) -> None:
    with pytest.raises(StockadeError, match="no binary"):
        carry(PRESET, binaries=(binary,))


def test_files_and_user(carry: Carry) -> None:
    found = carry(
        """\
        version: 1
        filesystem_policy:
          include_workdir: true
          read_only: [/usr, /lib, /proc, /etc, /dev/urandom, /srv/models/, /sandbox/.agent, /sys]
          read_write: [/sandbox, /tmp, /dev/null, /srv/data, /usr/local, /]
        landlock: {compatibility: best_effort}
        process: {run_as_user: 1500, run_as_group: 1600}
        """
    )
    assert found.policy.filesystem.read == ("/srv/models",)
    assert found.policy.filesystem.write == ("/srv/data",)
    assert found.policy.best_effort == {"landlock"}
    assert found.policy.process.user == "1500"
    assert found.codes == [*["left_out file"] * 4, "left_out group"]


@pytest.mark.parametrize("user", ["root", "0", '"00"'])
def test_root_is_refused(carry: Carry, user: str) -> None:
    found = carry(f"version: 1\nprocess: {{run_as_user: {user}}}\n")
    assert found.policy.process.user is None
    assert found.codes == ["left_out root"]


def test_files_that_here_are_always_there(carry: Carry) -> None:
    assert carry("version: 1\nfilesystem_policy: {read_only: [/srv]}\n").codes == ["left_out system_readable", "left_out workdir"]


@pytest.mark.parametrize(
    ("text", "where", "code"),
    [
        ("version: 2\n", "1:10", "version"),
        ("network_policies: {}\n", "1:1", "version"),
        ("version: 1\nversion: 1\n", "2:1", "duplicate_key"),
        ("version: 1\nnetwork_policies: [a]\n", "2:19", "wrong_type"),
        ("version: 1\nnetwork_policies: {a: {endpoints: [{host: a.example.com, port: https}]}}\n", "2:64", "wrong_type"),
        ("version: 1\nnetwork_policies: {a: {endpoints: [{host: a.example.com, access: write}]}}\n", "2:66", "bad_value"),
        ("version: 1\nprocess: [\n", "3:1", "syntax"),
        ("- a\n", "1:1", "wrong_type"),
        ("", "1:1", "empty"),
    ],
)
def test_what_they_would_not_load_is_located(tmp_path: Path, text: str, where: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError) as raised:
        import_file(file)
    assert [f"{problem.line}:{problem.column} {problem.code}" for problem in raised.value.problems] == [f"{where} {code}"]
    assert main(["policy", "import", str(file)]) == 2
    assert f"{file}:{where}: " in capsys.readouterr().err


def test_names_are_valid_and_one_of_each(carry: Carry) -> None:
    entry = "{endpoints: [{host: a.example.com, port: 443}], binaries: [{path: /usr/bin/tool}]}"
    found = carry(f"version: 1\nnetwork_policies: {{'code host!': {entry}, 'code host?': {entry}, '-': {entry}, {'x' * 80}: {entry}}}\n")
    assert [rule.name for rule in found.policy.rules] == ["code-host", "code-host-2", "rule", "x" * 58]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    file.write_text(dedent(PRESET))
    assert main(["policy", "import", str(file)]) == 1
    captured = capsys.readouterr()
    assert f"{file}:3:3: left out: `tickets` names no binary: say who with --binary [no_binaries]" in captured.err
    file.write_text(dedent(PRESET) + "    binaries: [{path: /usr/bin/curl}]\n")
    assert main(["policy", "import", str(file), "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["policy", "check", str(out)]) == 0
    capsys.readouterr()
    assert main(["policy", "import", str(file), "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"policy": as_json(import_file(file).policy), "losses": []}
    again = tmp_path / "again.json"
    again.write_text(json.dumps(answer["policy"]))
    assert load([again]).rules[0].method == load([out]).rules[0].method
    assert main(["policy", "import", str(tmp_path / "absent.yaml")]) == 2
    assert main(["policy", "import", str(file), "--out", str(tmp_path / "no" / "where.yaml")]) == 2
    assert "[unwritable]" in capsys.readouterr().err


def test_text_of_the_file_stays_in_its_comment(carry: Carry) -> None:
    entry = "{endpoints: [{host: a.example.com, port: 443}], binaries: [{path: /usr/bin/tool}]}"
    found = carry('version: 1\nnetwork_policies: {"a\\nversion: 2 \\x1b[31m": ' + entry + "}\n")
    assert "a?version: 2 ?[31m" in as_yaml(found.imported.policy)


def test_every_code_is_on_the_page_and_every_code_of_the_page_is_used() -> None:
    used = set()
    for source in Path(openshell.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            if isinstance(node, ast.Call) and name in ("Loss", "_lose") and isinstance(code := node.args[2], ast.Constant):
                used.add(code.value)
    page = (Path(__file__).resolve().parents[4] / "docs" / "import.md").read_text()
    table = page.partition("## Codes")[2].partition("\n## ")[0]
    assert {code for line in table.splitlines() if line.startswith("| `") for code in re.findall("`([a-z_]+)`", line.split("|")[1])} == used
