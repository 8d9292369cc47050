"""Codes: every kind of problem, by the stable name that stands in brackets behind it. docs/policy-errors.md is made from here.

An error keeps the policy from loading; a warning says that it allows more, or less, than it seems to. A code never changes its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """example: what is wrong, as it would be written. accepted: what would be right. severities: most codes have one."""

    meaning: str
    example: str
    accepted: str
    severities: tuple[Severity, ...] = ("error",)


_WARNING: tuple[Severity, ...] = ("warning",)

READING = {
    "unreadable": Code("the file cannot be read", "extends: [./missing.yaml]", "a file that is there"),
    "too_large": Code("the file has more than 4 MiB", "", "a smaller file"),
    "not_utf8": Code("a byte is not UTF-8", "name: café, in Latin-1", "UTF-8"),
    "syntax": Code("the file is not YAML, nests too deeply, or holds a second document", "name: [x", "one YAML document"),
    "empty": Code("the file holds nothing", "# only a comment", "a list of rules, or a mapping with `version: 1`"),
    "hidden_character": Code(
        "a character makes the line look other than it is: bidirectional controls, no width, a lone carriage return",
        "name: x # U+202E",
        "the line without it",
    ),
    "duplicate_key": Code("one mapping has a key twice", "mode: enforce, and again mode: observe", "the key once"),
    "anchor": Code("a YAML anchor", "name: &x agent", "the value"),
    "alias": Code("a YAML alias", "name: *x", "what it stands for, written out"),
    "tag": Code("a YAML tag", "name: !!str 5", '"5"'),
}

SHAPE = {
    "version": Code("the version of the format is not stated, or not known", "version: 2", "version: 1"),
    "unknown_key": Code("no such key", "destinaton: {…}", "the keys of that place"),
    "not_supported": Code("the key is known, and nothing in this version would enforce it", "", "the policy without it"),
    "missing_key": Code("a key that must be there is not", "a rule without `binary`", "binary: {allow: [curl]}"),
    "wrong_type": Code(
        "text, list or mapping where another of them belongs; an unquoted number or yes where text belongs", "name: 5", '"5"'
    ),
    "bad_value": Code("none of the words that may stand there", "mode: audit", "enforce, observe"),
    "bad_number": Code("no number, or one out of range", "process: {pids: 0}", "1 to 4194304"),
    "empty_list": Code("a list without entries: it would say nothing", "allow: []", "an entry, or no such key"),
    "repeated": Code("an entry stands twice", "allow: [GET, GET]", "allow: [GET]", _WARNING),
    "bad_name": Code("no name", "name: my policy", "letters, digits, `.`, `_`, `-`; at most 64"),
    "bad_user": Code("no user", "user: 0x", "a user's name or number"),
    "bad_variable": Code("no name of a variable", "env: [LD-PRELOAD]", "letters, digits and `_`"),
    "bad_file_path": Code("no absolute path, or one with `..`", "read: [data]", "/srv/data"),
    "bad_rego_file": Code("no Rego file", "rego: [rules.txt]", "./rules.rego"),
    "bad_sha256": Code("no SHA-256", "sha256: abc", "64 hex digits, in lower case"),
    "bad_category": Code("no category of data", "scan: [phi]", "phi.identifier, credential.*"),
    "bad_size": Code("no size", "memory: lots", "512M"),
    "bad_syscall": Code("no name of a system call", "deny: [Ptrace!]", "ptrace"),
    "unknown_syscall": Code("a system call that Linux on x86-64 does not have", "deny: [ptrce]", "ptrace"),
    "syscall_never": Code("a system call that no policy can allow", "allow: [mount]", "the policy without it; docs/seccomp.md lists them"),
    "syscall_needed": Code("a denial of what every program needs to start", "deny: [mmap]", "calls that a program can do without"),
    "syscall_allowed": Code("the call is allowed already", "allow: [read]", "the policy without it", _WARNING),
    "bad_pattern": Code("a pattern that RE2 does not take", "pattern: '(?<=x)y'", "RE2's syntax: no look-around, no back references"),
    "bad_term": Code("a term of a dictionary without a letter or a digit", "***, on a line of the file", "a word, a name, a code"),
    "bad_url": Code("no URL", "url: localhost", "http://localhost:11434"),
}

RULES = {
    "bad_binary": Code("no binary", "allow: [bin/tool]", "a family or base name such as curl, or an absolute path"),
    "binary_too_broad": Code("the entry stands for any program", 'allow: ["*"]', "curl, /opt/tool/bin/*"),
    "bad_host": Code("no host", "allow: [user@example.com]", "api.example.com, *.example.com, 10.1.2.0/24, host:8443, localhost"),
    "host_has_path": Code("a destination with a path", "allow: [discord.com/api]", "discord.com, with `/api/**` under `path:`"),
    "host_has_url": Code("a destination that is a URL", "allow: [https://api.example.com/v1]", "api.example.com"),
    "bad_wildcard": Code("a star that does not stand for whole labels at the front", "allow: [api.*.example.com]", "*.example.com"),
    "host_too_broad": Code(
        "anybody could own a host of this entry: `*`, a public suffix, a wide network", 'allow: ["*.com"]', "*.example.com"
    ),
    "own_host": Code(
        "a rule names a host that is Stockade's own: the one that every binary may read, or what is below it",
        "destination: stockade.internal",
        "hosts of others; sandbox:NAME for another sandbox",
    ),
    "bad_sandbox": Code("no name of a sandbox, or one that no host can have", "allow: [sandbox:DB]", "sandbox:db, sandbox:db:5432"),
    "address_refused": Code(
        "an address that is never dialled: loopback, link-local, metadata …",
        "allow: [169.254.169.254]",
        "localhost, for the host's loopback",
    ),
    "idn_host": Code("a name with characters that look like others", "allow: [аpi.example.com]", "the name in its ASCII form", _WARNING),
    "shared_domain": Code(
        "a wildcard of one owner that covers a public suffix below",
        'allow: ["*.amazonaws.com"]',
        "the hosts that are meant, by name",
        _WARNING,
    ),
    "bad_network": Code("no network", "addresses: [10.0.0.0/99]", "10.1.2.0/24"),
    "bad_port": Code("no port", "port: 99999", "1 to 65535"),
    "missing_port": Code("a rule that relays tcp names no port", "protocol: tcp", "port: 5432, or host:5432"),
    "bad_method": Code("no method, or CONNECT", "allow: [get]", "GET"),
    "bad_path": Code("no path glob, or one that no canonical path can match", "allow: [/a?b=c]", "/a"),
    "missing_level": Code(
        "a rule with only some of the levels: none is implied by another", "no `path`", "method and path both, or `tls: passthrough`"
    ),
    "duplicate_name": Code(
        "two routes, dictionaries or custom detectors of one name", "routes: [{name: a, …}, {name: a, …}]", "names that differ"
    ),
    "duplicate_rule": Code("two rules of one name", "name: same, twice", "names that differ; `override` to change an extended rule"),
    "contradiction": Code(
        "two statements exclude each other; a warning where they stand in two rules, an error in one: an entry allowed and denied, or "
        "a level in a rule that is relayed",
        "method: {allow: [GET], deny: [GET]}",
        "the entry in one of the two",
        ("error", "warning"),
    ),
}

COMPOSITION = {
    "no_policy": Code("no file and no preset is given", "", "--policy FILE, --preset NAME"),
    "unknown_preset": Code("no such preset", "extends: [presets/pipy]", "presets/pypi"),
    "extends_cycle": Code("files extend each other", "a.yaml extends b.yaml extends a.yaml", "no way back"),
    "unknown_rule": Code(
        "`override` or `remove` of a rule that is not extended here", "remove: [nothing]", "a rule of the files under `extends`"
    ),
    "shared_rule": Code(
        "`override` or `remove` of a rule that is in force without this file, too: given beside it, or extended by another file",
        "--policy base.yaml --policy mine.yaml, where mine.yaml extends base.yaml and removes its rule",
        "--policy mine.yaml",
    ),
    "looser_route": Code(
        "a route would loosen what a file that is extended, or given after, says",
        "routes: [{when: [phi.*], then: pass}], and the file that is extended denies phi.*",
        "a route that is as strict, or stricter",
    ),
    "source_writable": Code(
        "a file of the policy lies below a directory that the sandbox may write",
        "filesystem: {write: [DIR of this file]}",
        "the file elsewhere",
    ),
    "exec_writable": Code(
        "a program lies where the sandbox can write: it could put another there. Error, or a warning with `exec.writable: true`",
        "exec: {allow: [/tmp/tool]}",
        "/opt/tool/bin/tool",
        ("error", "warning"),
    ),
}

MEANING = {
    "interpreter_rule": Code(
        "the rule holds for any program that the interpreter runs",
        "binary: {allow: [python3]}",
        "pip, npm: the script's own name",
        _WARNING,
    ),
    "never_runs": Code(
        "the rule is for a binary that may not run", "exec: {allow: [sh]}, and a rule on curl", "exec: {allow: [sh, curl]}", _WARNING
    ),
    "unreachable": Code(
        "no request can be decided by the rule, or by the entry", "a path below a denied one", "the policy without it", ("error", "warning")
    ),
    "no_path": Code(
        "no path of the rule fits what its destination serves",
        "destination: localhost, path: /api/v1/patients/*",
        "/v1/chat/completions, /api/chat",
        ("error", "warning"),
    ),
    "no_local_model": Code(
        "a request would be led to the local model, and the policy names none",
        "routes: [{when: [phi.*], then: local}], without `local`",
        "local: {url: …, model: …}",
        _WARNING,
    ),
    "unknown_category": Code("nothing finds that category", "when: [pii.persn]", "pii.person", _WARNING),
    "unknown_label": Code(
        "no endpoint has the label that a category requires",
        "require_residency: {pii.*: [EU]}, without an endpoint labelled EU",
        "residency: {api.example.com: EU}",
        _WARNING,
    ),
    "binary_not_found": Code("`policy check` finds no file of that binary on this machine", "binary: {allow: [crul]}", "curl", _WARNING),
}

REGO = {
    "rego_syntax": Code("the Rego does not compile", "allow { input.host = }", "Rego as of OPA 1.0, or as before it"),
    "rego_package": Code("the file is in another package", "package other", "package stockade, or no package line"),
    "rego_builtin": Code("a function that is not known, or that reaches beyond the input", "http.send(…)", "functions of the input alone"),
    "rego_engine": Code("the Rego engine could not be asked", "", "an engine that starts: see the message"),
}

TESTS = {
    "bad_case": Code(
        "a policy test that asks nothing, or several things at once", "{binary: curl}", "exactly one of url, connect, dns, exec"
    ),
    "bad_target": Code("a test asks for what is no URL, host or file", "url: example.com", "https://example.com/"),
    "bad_family": Code("policies/binaries.yaml: a family without lists", "git: {}", "executables, scripts, helpers, interpreter"),
}

RELOADING = {
    "static_changed": Code(
        "a reload would change what a running sandbox was started with: exec, filesystem, process, best_effort, or a binary of a rule",
        "exec: {allow: [sh, wget]}, and it was started with [sh]",
        "what it was started with; or start it again",
    ),
}

SECTIONS = {
    "Reading a file": READING,
    "Keys and values": SHAPE,
    "Rules": RULES,
    "Files together": COMPOSITION,
    "What it means": MEANING,
    "Rego": REGO,
    "Tests and families": TESTS,
    "Hot reload": RELOADING,
}

CODES: dict[str, Code] = {name: code for section in SECTIONS.values() for name, code in section.items()}
