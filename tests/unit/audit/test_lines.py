"""What a line may hold: no text from a sandbox ends a line, a string or a field, and no credential is written."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit import Trail, human_line, mask_path, verify
from stockade.audit.chain import seal, unseal
from stockade.audit.mask import mask_text
from stockade.audit.record import describe
from stockade.types import Action, Destination, Effect, Http, Level, Outcome, Reason, Record, Sandbox
from unit.audit.samples import BOX, CURL, connect, request


def shown(record: Record, sandbox: Sandbox = BOX) -> str:
    return human_line(describe(sandbox, record))


def bare(action: Action, outcome: Outcome = Outcome.ALLOW, level: Level = Level.STATIC, reason: Reason = Reason.STARTED) -> Record:
    return Record(action, outcome, Effect.PASS if outcome is Outcome.ALLOW else Effect.REFUSE, level, reason)


def test_the_house_s_example() -> None:
    assert shown(connect()) == "NET DENY curl(4242) box-7f -> pastebin.com:443 reason=no_rule gen=12"


def test_an_http_line_shows_method_path_status_and_bytes() -> None:
    record = replace(request(), http=Http("GET", "/simple/six/", 200, 0, 1234))
    assert shown(record) == "HTTP ALLOW curl(77) box-7f -> index.example:443 GET /simple/six/ 200 1234B rule=pypi reason=rule_allow gen=12"


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            Record(
                Action.EXEC, Outcome.DENY, Effect.REFUSE, Level.EXEC, Reason.EXEC_UNLISTED, binary=replace(CURL, path="/tmp/x y"), pid=9
            ),
            r"EXEC DENY curl(9) box-7f -> /tmp/x\x20y reason=exec_unlisted gen=12",
        ),
        (
            replace(connect(), destination=Destination("2001:db8::1", 22), enforced=False),
            "NET DENY curl(4242) box-7f -> [2001:db8::1]:22 reason=no_rule enforced=no gen=12",
        ),
        (
            Record(
                Action.DNS,
                Outcome.ALLOW,
                Effect.PASS,
                Level.DESTINATION,
                Reason.RULE_ALLOW,
                destination=Destination("a.b"),
                detail={"type": "A"},
            ),
            "DNS ALLOW - box-7f -> a.b type=A reason=rule_allow gen=12",
        ),
        (
            replace(bare(Action.LIFECYCLE), detail={"argv": ["sh", "-c", ""]}),
            'AGENT ALLOW - box-7f argv=sh,-c,"" reason=started gen=12',
        ),
    ],
)
def test_other_lines(record: Record, line: str) -> None:
    assert shown(record) == line


HOSTILE = [
    "a\nNET ALLOW curl(1) box -> evil.com:443",
    "a\r\x1b[2K\x1b[1Afake",
    "nul\0nul",
    'quote","decision":"allow',
    "back\\slash",
    "host reason=rule_allow",
    "\u202egnp.exe",
    "\u2028line\u2029",
    "\udcff\udc80 not utf-8",
    "x\x7f\x9b31m",
    "é́" * 200,
    "\U0001f4a9",
]


def everywhere(text: str) -> tuple[Sandbox, Record]:
    sandbox = Sandbox(text, text, text, 1, {text: text})
    record = Record(
        Action.HTTP,
        Outcome.DENY,
        Effect.REFUSE,
        Level.PATH,
        Reason.NO_RULE,
        rule=text,
        binary=replace(CURL, name=text, path=text, script=text),
        pid=1,
        ancestry=(text,),
        destination=Destination(text, 443, text),
        http=Http(text, "/" + text),
        detail={"argv": [text, text], "text": text},
    )
    return sandbox, record


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(path: Path, text: str) -> None:
    human = StringIO()
    trail = Trail.open(path, human=human)
    trail.append(*everywhere(text))
    trail.close()
    first, checkpoint = path.read_bytes().splitlines()
    assert b"checkpoint" in checkpoint and all(0x20 <= byte < 0x7F for byte in first)
    one = json.loads(first)
    assert (one["destination"]["host"], one["binary"]["path"], one["decision"], one["detail"]["argv"]) == (text, text, "deny", [text, text])
    (line,) = human.getvalue().splitlines()
    assert all("!" <= letter <= "~" or letter == " " for letter in line)
    assert len(line.split(" ")) == len(shown(everywhere("x")[1], everywhere("x")[0]).split(" ")), "no field was added"
    assert line.endswith("reason=no_rule gen=1")
    assert verify(path).ok


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
def test_any_text_comes_back_and_stays_one_line(text: str) -> None:
    sandbox, record = everywhere(text)
    line, _ = seal(describe(sandbox, record), "0" * 64)
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and line.isascii()
    assert unseal(line[:-1])["destination"]["host"] == text
    assert shown(record, sandbox).isprintable()


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        ("/bot123456:AAE-xyz_0/sendMessage", "/bot***/sendMessage"),
        ("/bot123456%3aAAE/getMe", "/bot***/getMe"),
        ("/file/bot1:a/photos/1.jpg", "/file/bot***/photos/1.jpg"),
        ("/bottles/12:30/x", "/bottles/12:30/x"),
        ("/services/T0000000/B0000000/XXXXXXXXXXXX", "/services/T0000000/***"),
        ("/api/webhooks/123456/abc-DEF_1", "/api/webhooks/123456/***"),
        ("/api/v10/webhooks/123456/abc/messages", "/api/v10/webhooks/123456/***/messages"),
        ("/v1/models?key=AIzaSyD-0123456789012345678901234567890", "/v1/models?key=***"),
        ("/x?a=1&access_token=s3cret&b=2#f", "/x?a=1&access_token=***&b=2#f"),
        ("/x?X-Amz-Signature=00ff&X-Amz-Date=1", "/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("/x?keyword=cats&monkey=1", "/x?keyword=cats&monkey=1"),
        ("/repos/ghp_0123456789abcdef0123/x", "/repos/***/x"),
        ("/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln/x", "/t/***/x"),
        ("/packages/b7/ce/149a00dae6d0afef6ea0d8de1a6a9b95/six-1.17.0-py2.py3-none-any.whl", None),
        ("/fhir/Patient/12345", "/fhir/Patient/***"),
        ("/fhir/Patient/example/_history/2", "/fhir/Patient/***/_history/2"),
        ("/fhir/Patient/$everything", None),
        ("/fhir/Patient/_search", None),
        ("/fhir/Patient?name=Smith&birthdate=1980-01-01", "/fhir/Patient?name=Smith&birthdate=***"),
        ("/fhir/Observation?patient=12345&subject:Patient=7", "/fhir/Observation?patient=***&subject:Patient=***"),
        ("/api/v1/patients/7/notes", "/api/v1/patients/***/notes"),
        ("/api/v1/patients/search", None),
        ("/api/v1/patients", None),
        ("/mrn/00123456/labs", "/mrn/***/labs"),
        ("/charts/MRN-00123456", "/charts/***"),
        ("/people/123-45-6789", "/people/***"),
        ("/users/jane.doe@example.com/mail", "/users/***/mail"),
        ("/users/jane.doe%40example.com", "/users/***"),
        ("/lodash@4.17.21/lodash.js", None),
        ("/@scope/pkg/-/pkg-1.0.0.tgz", None),
        ("/golang.org/x/net/@v/v0.1.0.mod", None),
        ("/v1/memberships", None),
        ("/simple/six/", None),
        ("/api/chat.postMessage", None),
        ("", None),
    ],
)
def test_masked_paths(path: str, masked: str | None) -> None:
    assert mask_path(path) == (path if masked is None else masked)
    assert mask_path(mask_path(path)) == mask_path(path)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ***"),
        ("https://user:pass@example.com/x", "https://***@example.com/x"),
        ("sk-proj-0123456789abcdef0123", "***"),
        ("https://api.telegram.org/bot1:x/getMe", "https://api.telegram.org/bot***/getMe"),
        ("AAAA", "AAAA"),
        ("no rule for jane@example.com here", "no rule for *** here"),
        ("git@github.com:org/repo.git", "git@github.com:org/repo.git"),
        ("curl https://ehr/Patient/9?x", "curl https://ehr/Patient/***?x"),
        ("task-force one", "task-force one"),
    ],
)
def test_masked_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_masked_in_every_place_that_is_written(path: Path) -> None:
    human, seen = StringIO(), list[dict[str, Any]]()
    trail = Trail.open(path, human=human)
    trail.subscribers.append(seen.append)
    token = trail.begin(BOX, request("/bot1:SECRET/getMe"))
    journal = Path(f"{path}.journal").read_text()
    trail.finish(token, http=Http("GET", "/bot1:SECRET/getMe", 200))
    trail.append(BOX, replace(connect(), detail={"argv": ["curl", "https://a.b/bot1:SECRET/x"]}))
    trail.close()
    assert "SECRET" not in path.read_text() + human.getvalue() + journal + str(seen)
