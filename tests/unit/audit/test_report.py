"""The report: its figures are the trail's, its page lets nothing in, and a browser shows it as it is meant."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit.read import Broken, Filter, read
from stockade.audit.record import Json
from stockade.audit.report import FRAMEWORKS, Case, gather, page
from stockade.audit.report.coverage import Status, coverage
from stockade.audit.report.gather import SPANS, Timeline
from stockade.audit.verify import verify
from stockade.cli import main
from unit.audit import day
from unit.audit.examples import examples
from unit.audit.test_formats import hostile
from unit.audit.test_lines import HOSTILE

CHROMIUM = shutil.which("chromium")
SHOTS = Path(os.environ.get("STOCKADE_SHOTS", Path(__file__).parents[3] / "build" / "shots"))  # kept after the run, to be looked at


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    return examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def trail(made: dict[str, Json], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day") / "audit.jsonl"
    day.write(path, made)
    return path


def case_of(trail: Path, **wanted: str) -> Case:
    (case,) = gather(record for record in read(trail, Filter(**wanted)) if not isinstance(record, Broken))
    return case


class Reader(HTMLParser):
    """What a browser makes of it: elements with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self._in_style = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            self.text += data


def test_the_figures_are_those_of_the_trail(trail: Path) -> None:
    records = [json.loads(line) for line in trail.read_text().splitlines()]
    attempts = [each for each in records if each.get("action") not in (None, "lifecycle", "policy")]
    case = case_of(trail)
    assert case.records == len([each for each in records if "action" in each])
    assert case.decisions["allowed"] == sum(each["decision"] == "allow" for each in attempts)
    assert case.decisions["refused"] == sum(each["decision"] == "deny" and each["enforced"] for each in attempts)
    assert sum(group.count for group in case.refused.values()) == case.decisions["refused"]
    assert sum(allowed + denied for _, allowed, denied in case.timeline.bars(96)) == len(attempts)
    assert [each.number for each in case.generations] == [1, 2]
    assert case.categories["redact", "phi.identifier"] == 2 * sum(each["effect"] == "redact" for each in attempts)


def test_a_period_is_all_that_is_counted(trail: Path) -> None:
    case = case_of(trail, since="2026-11-24T10:00:00.000000Z", until="2026-11-24T11:00:00.000000Z")
    assert "2026-11-24T10:00" <= case.first < case.last < "2026-11-24T11:00"
    assert case.started is None and not case.terms()


@settings(max_examples=50, deadline=None)
@given(seconds=st.lists(st.integers(0, 10**8), min_size=1, max_size=300), most=st.integers(2, 200))
def test_no_attempt_is_lost_on_the_timeline(seconds: list[int], most: int) -> None:
    times = Timeline()
    for second in seconds:
        times.add(f"2026-01-01T00:00:00.{second % 1000000:06d}Z" if second < 10**6 else _stamp(second), second % 3 == 0)
    bars = times.bars(most)
    assert sum(allowed + denied for _, allowed, denied in bars) == len(seconds) and len(bars) <= most and len(times.spans) <= SPANS


def _stamp(second: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(1_767_225_600 + second, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_what_a_sandbox_makes_up_does_not_grow_its_page_without_end(made: dict[str, Json], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Case.__module__], "GROUPS", 20)
    record = made["connect-deny"]
    hosts = [record | {"destination": record["destination"] | {"host": f"h{number}.example"}} for number in range(50)]
    (case,) = gather(hosts)
    assert (case.decisions["refused"], len(case.refused), case.beyond) == (50, 20, 30)
    assert "30 records are counted above" in Reader(page(case, [], made="2026-11-25T09:00:00.000000Z")).text


def test_the_page_is_alone_and_lets_nothing_in(trail: Path) -> None:
    source = page(case_of(trail), [(trail, verify(trail))], made="2026-11-25T09:00:00.000000Z", framework="hipaa")
    found = Reader(source)
    names = {name for name, _ in found.elements}
    assert not names & {"script", "img", "link", "iframe", "object", "form", "input", "base", "audio", "video", "use", "image"}
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name in ("style", "src", "srcset", "action", "formaction") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in found.style and "@import" not in found.style
    (policy,) = [each["content"] for name, each in found.elements if each.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize("text", [*HOSTILE, "<script>alert(1)</script>", '"><svg onload=alert(1)>', "</style><b>", "]]>", "{{7*7}}"])
def test_hostile_text_stays_text(text: str) -> None:
    def shape(source: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(name, tuple(sorted(attributes))) for name, attributes in Reader(source).elements]

    def made_of(said: str) -> str:
        record = hostile(said) | {"time": "2026-11-24T15:14:00.000001Z"}
        (case,) = gather([record | {"sandbox": record["sandbox"] | {"id": said or "x"}}])
        return page(case, [], made="2026-11-25T09:00:00.000000Z")

    source = made_of(text)
    assert shape(source) == shape(made_of("x"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069]", source)
    source.encode()  # no lone surrogate is left


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_says_what_is_shown_and_what_is_not(trail: Path, framework: str) -> None:
    case, check = case_of(trail), verify(trail)
    rows = FRAMEWORKS[framework].rows(case, [check])
    assert len({row.control for row in rows}) == len(rows) >= 5
    assert all(row.shows and row.lacks for row in rows)
    said = " ".join(row.shows for row in rows)
    assert str(case.records) in said and not re.search(r"\b(compliant|complies|satisf|certif|guarantee)", said, re.I)


# OWASP: each row follows from what is on record


def with_terms(case: Case, **changes: str) -> Case:
    said = case.policy
    assert said is not None
    terms = case.terms() | {key.replace("__", "."): value for key, value in changes.items()}
    said["detail"]["terms"] = [f"{key}={value}" for key, value in terms.items()]
    return case


def status(case: Case) -> dict[str, Status]:
    return {row.id: row.status for row in coverage(case)}


def test_all_ten_risks_are_there_and_none_is_held_without_a_reason(trail: Path) -> None:
    rows = coverage(case_of(trail))
    assert [row.id for row in rows] == [f"ASI{number:02}" for number in range(1, 11)]
    assert all(row.holds and row.beyond for row in rows)
    assert not any(row.open for row in rows if row.status is Status.HELD)


def test_where_the_policy_is_not_on_record_nothing_is_claimed(trail: Path) -> None:
    case = case_of(trail, since="2026-11-24T10:00:00.000000Z", until="2026-11-24T11:00:00.000000Z")
    assert set(status(case).values()) == {Status.UNKNOWN} and not any(row.holds for row in coverage(case))


@pytest.mark.parametrize(
    ("changes", "risk", "word"),
    [
        ({"exec__writable": "true"}, "ASI03", "identity is weak"),
        ({"exec__writable": "true"}, "ASI05", "exec.writable=true"),
        ({"exec__unlisted": "no-network"}, "ASI02", "exec.unlisted=no-network"),
        ({"rules__relayed": "2"}, "ASI02", "what 2 rules allow is passed on"),
        ({"rules__any_path": "3"}, "ASI01", "what 3 rules allow is open on every path"),
        ({"best_effort": "landlock"}, "ASI10", "best_effort: landlock"),
        ({"on_audit_failure": "continue"}, "ASI08", "unrecorded"),
        ({"inbound": "8080 from 10.0.0.0/8"}, "ASI07", "8080 from 10.0.0.0/8"),
        ({"process__env": "TOKEN (inherited), LANG"}, "ASI03", "TOKEN (inherited)"),
        ({"exec__allow": "python3, git"}, "ASI05", "python3"),
        ({"privacy": "none"}, "ASI06", "privacy=none"),
    ],
)
def test_what_a_policy_leaves_open_is_named(trail: Path, changes: dict[str, str], risk: str, word: str) -> None:
    (row,) = [row for row in coverage(with_terms(case_of(trail), **changes)) if row.id == risk]
    assert any(word in text for text in row.open), row.open
    assert row.status is not Status.HELD


def test_where_nothing_is_refused_nothing_is_held(trail: Path) -> None:
    assert set(status(with_terms(case_of(trail), mode="observe")).values()) == {Status.RECORDED}


# the verb


def test_the_verb_writes_one_page_for_each_sandbox(trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "report", str(trail), "--framework", "soc2", "--to", str(tmp_path / "pages"), "-o", "json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["verified"] and said["refused"] > 0 and Path(said["page"]).stat().st_mode & 0o777 == 0o600
    assert "SOC 2" in Reader(Path(said["page"]).read_text()).text
    assert main(["audit", "report", str(trail), "--sandbox", "nobody", "--to", str(tmp_path)]) == 1


def test_a_damaged_trail_is_said_on_the_page(trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "audit.jsonl"
    lines = trail.read_bytes().splitlines(keepends=True)
    damaged.write_bytes(b"".join([*lines[:50], lines[50].replace(b'"deny"', b'"allow"').replace(b'"pass"', b'"relay"'), *lines[51:]]))
    assert main(["audit", "report", str(damaged), "--to", str(tmp_path / "page.html")]) == 1
    text = Reader((tmp_path / "page.html").read_text()).text
    assert "The trail is damaged" in text and f"{damaged}:51" in text
    assert "DAMAGED" in capsys.readouterr().out


# as it looks


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: deploy/setup.sh --tests")
@pytest.mark.parametrize(("name", "options"), [("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"]), ("narrow", [])])
def test_a_browser_shows_it(trail: Path, tmp_path: Path, name: str, options: list[str]) -> None:
    source = tmp_path / "report.html"
    source.write_text(page(case_of(trail), [(trail, verify(trail))], made="2026-11-25T09:00:00.000000Z", framework="hipaa"))
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = SHOTS / f"audit-report-{name}.png"
    shot.unlink(missing_ok=True)
    size = "420,2600" if name == "narrow" else "1280,4200"
    browser(tmp_path, f"--screenshot={shot}", f"--window-size={size}", *options, source.as_uri())
    data = shot.read_bytes()
    assert data.startswith(b"\x89PNG") and [int.from_bytes(data[at : at + 4]) for at in (16, 20)] == [int(each) for each in size.split(",")]
    assert len(data) > 50_000, "an empty page"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: deploy/setup.sh --tests")
def test_a_browser_applies_the_style_and_complains_of_nothing(trail: Path, tmp_path: Path) -> None:
    """Its own words on what it loaded: a style that the page's policy refuses would be one of them."""
    source = tmp_path / "report.html"
    source.write_text(page(case_of(trail), [(trail, verify(trail))], made="2026-11-25T09:00:00.000000Z"))
    result = browser(tmp_path, "--dump-dom", "--enable-logging=stderr", "--v=0", source.as_uri())
    assert "What box-7f did" in result.stdout and "<svg" in result.stdout
    assert "CONSOLE" not in result.stderr and "Refused to" not in result.stderr, result.stderr
    broken = tmp_path / "broken.html"
    broken.write_text(source.read_text().replace("<style>", "<style> ", 1))
    assert "CONSOLE" in browser(tmp_path, "--dump-dom", "--enable-logging=stderr", "--v=0", broken.as_uri()).stderr


def browser(profile: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    line = [CHROMIUM, *options, f"--user-data-dir={profile / 'profile'}", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
