"""What a glance takes for a record is one, and its fields are those that parsing finds; what it does not take is parsed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.audit import Trail
from stockade.audit.chain import GENESIS, seal
from stockade.audit.glance import GROUPS, glance, meant
from stockade.audit.read import Broken, Filter, columns, is_record, read
from stockade.audit.record import Json
from stockade.cli import main
from stockade.types import Sandbox
from unit.audit.samples import connect, request
from unit.audit.test_lines import HOSTILE, everywhere

GOLDEN = Path(__file__).parents[2] / "golden/audit/json"


def sealed(fields: Json) -> bytes:
    return seal({name: value for name, value in fields.items() if name not in ("hash", "prev")}, GENESIS)[0][:-1]


EXAMPLES = [sealed(record) for file in sorted(GOLDEN.iterdir()) for record in json.loads(file.read_text()).values()]


def demand_alike(line: bytes) -> None:
    """Of a line that a glance takes."""
    seen, record = glance(line), json.loads(line)
    assert seen is not None and is_record(record)
    for name, keys in GROUPS.items():
        found: object = record
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        assert meant(seen[name]) == found, name


def test_every_kind_of_record_is_taken() -> None:
    assert len({json.loads(line)["action"] for line in EXAMPLES}) > 10
    for line in EXAMPLES:
        demand_alike(line)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_too(path: Path, text: str) -> None:
    trail = Trail.open(path)
    trail.append(*everywhere(text))
    trail.close()
    demand_alike(path.read_bytes().splitlines()[0])


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(EXAMPLES),
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 3), st.sampled_from([*b'"\\{}[],:0-1e.tnu \n\x80', *b"aZ"])), min_size=1, max_size=4
    ),
)
def test_what_is_changed_is_taken_only_where_it_is_a_record_still(line: bytes, changes: list[tuple[int, int, int]]) -> None:
    text = bytearray(line)
    for at, gone, octet in changes:
        at %= len(text)
        text[at : at + gone] = bytes([octet])
    if glance(bytes(text)) is not None:
        demand_alike(bytes(text))


LABELS = [
    {"namespace": "team-a", "pod": "a", "pod_uid": "u"},
    {"a": "b", "namespace": "", "z": "pod"},
    {"names": "1", "namespaces": "2", "po": "3", "pod ": "4"},
    {"ä": "ö", "namespace": "ü\n", "\x7f": ""},
    {},
]


@pytest.mark.parametrize("labels", LABELS, ids=range(len(LABELS)))
def test_a_pods_labels_are_those_that_parsing_finds(path: Path, labels: dict[str, str]) -> None:
    trail = Trail.open(path)
    trail.append(Sandbox("i", "box", "p", 1, labels), connect())
    trail.close()
    demand_alike(path.read_bytes().splitlines()[0])


def test_a_label_whose_name_is_spelt_otherwise_is_for_a_parser() -> None:
    line = next(line for line in EXAMPLES if b'"agent":' in line)
    spelt = line.replace(b'"agent":', b'"name\\u0073pace":')
    assert glance(line) is not None and spelt != line and glance(spelt) is None
    assert is_record(json.loads(spelt)) and Filter(namespace="claude-*").matches(json.loads(spelt))


def with_hash(body: bytes) -> bytes:
    return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def test_a_line_in_another_spelling_is_read_and_counted_and_what_is_no_record_is_said_whatever_one_looks_for(path: Path) -> None:
    record = json.loads(EXAMPLES[0]) | {"action": "http", "decision": "deny", "seq": 1}
    del record["hash"]
    spaced = json.dumps(record).encode()  # as nobody here writes it
    torn = json.dumps(record | {"detail": {"x": 1.5}}, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(with_hash(spaced) + with_hash(torn) + EXAMPLES[1] + b"\n" + EXAMPLES[2].replace(b"alice", b"bob") + b"\n")
    assert all(glance(line) is None for line in path.read_bytes().splitlines()[:2])
    found = list(read(path, Filter(decision="deny", action="http")))
    assert [isinstance(one, Broken) for one in found].count(False) >= 1 and Broken(2, "not a record", path) in found
    assert found[0] == json.loads(with_hash(spaced))
    assert Counter(one for one in columns(path, Filter(action="http"), ["action", "decision"]) if not isinstance(one, Broken))[
        b'"http"', b'"deny"'
    ] == len([one for one in read(path, Filter(action="http", decision="deny")) if not isinstance(one, Broken)])


FILTERS = [
    Filter(),
    Filter(sandbox="box-17"),
    Filter(sandbox="id-150", decision="deny"),
    Filter(action="http", host="index.*"),
    Filter(binary="/usr/*/curl", rule="py*"),
    Filter(host="evil-[0-4]*"),
    Filter(reason="no_rule", until="2026-01-01"),
    Filter(since="2026-01-01"),
]


@pytest.fixture
def many(path: Path) -> Path:
    """Of 200 sandboxes, interleaved, three records each."""
    trail = Trail.open(path)
    for turn in range(3):
        for number in range(200):
            box = Sandbox(f"id-{number}", f"box-{number}", "p", 1, {"team": str(number % 3)})
            trail.append(box, request(f"/{turn}") if turn != 1 else connect(f"evil-{number}.example"))
    trail.close()
    return path


@pytest.mark.parametrize("wanted", FILTERS, ids=range(len(FILTERS)))
def test_filters_find_what_they_find_in_parsed_records(many: Path, wanted: Filter) -> None:
    everything = [json.loads(line) for line in many.read_bytes().splitlines() if b'"checkpoint"' not in line]
    expected = [record for record in everything if wanted.matches(record)]
    assert list(read(many, wanted)) == expected
    assert list(read(many, wanted, last=5)) == expected[-5:]
    names = ["sandbox", "id", "port", "method", "rule"]
    got = [tuple(map(meant, one)) for one in columns(many, wanted, names) if not isinstance(one, Broken)]
    assert got == [
        (
            *(one["sandbox"]["name"], one["sandbox"]["id"], (one["destination"] or {}).get("port")),
            *((one["http"] or {}).get("method"), one["rule"]),
        )
        for one in expected
    ]


def test_one_sandbox_of_many(many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb that takes one, on a trail that holds two hundred."""

    def said(*words: str | Path, status: int = 0) -> str:
        assert main(["audit", *map(str, words)]) == status
        return capsys.readouterr().out

    assert [json.loads(line)["seq"] for line in said("grep", many, "--sandbox", "box-17", "-o", "json").splitlines()] == [18, 218, 418]
    assert [json.loads(line)["seq"] for line in said("tail", many, "-n", "2", "--sandbox", "box-17", "-o", "json").splitlines()] == [
        218,
        418,
    ]
    assert len(said("export", many, "--sandbox", "box-17", "--format", "cef").splitlines()) == 3
    assert json.loads(said("stats", many, "--sandbox", "box-17", "--by", "sandbox,decision", "-o", "json")) == [
        {"sandbox": "box-17", "decision": "allow", "records": 2},
        {"sandbox": "box-17", "decision": "deny", "records": 1},
    ]
    assert len(json.loads(said("stats", many, "--by", "sandbox", "-o", "json"))) == 200
    (made,) = json.loads(said("report", many, "--sandbox", "box-17", "--to", tmp_path / "one.html", "-o", "json"))
    assert (made["sandbox"], made["records"], made["refused"], made["verified"]) == ("box-17", 3, 1, True)
    text = (tmp_path / "one.html").read_text()
    assert "evil-17.example" in text and "evil-18.example" not in text and "box-18" not in text
    pages = json.loads(said("report", many, "--to", tmp_path / "all", "-o", "json"))
    assert len(pages) == len(list((tmp_path / "all").iterdir())) == 200 and {page["records"] for page in pages} == {3}
