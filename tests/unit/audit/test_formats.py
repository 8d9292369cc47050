"""The forms that records leave in: as they were, valid by the schema of each, and nothing a sandbox says becomes a field of its own."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from stockade import __version__
from stockade.audit.chain import GENESIS, seal
from stockade.audit.formats import BY_NAME, line
from stockade.audit.formats.cef import cef
from stockade.audit.formats.ecs import ecs
from stockade.audit.formats.ocsf import VERSION, ocsf
from stockade.audit.record import Json, describe
from stockade.types import Action, Effect, Outcome, Reason
from unit.audit.ecs_fields import FIELDS, KINDS, OWN, TYPES
from unit.audit.examples import POD, examples
from unit.audit.test_lines import HOSTILE, everywhere

GOLDEN = Path(__file__).parents[2] / "golden" / "audit"
ACTIONS = [action.value for action in Action]
NEVER_ALLOWED = {"device", "syscall"}  # nobody tells of those that succeed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    return examples(tmp_path_factory.mktemp("examples"))


def hostile(text: str, action: Action = Action.HTTP, reason: Reason = Reason.NO_RULE) -> Json:
    sandbox, record = everywhere(text)
    object.__setattr__(record, "action", action)
    object.__setattr__(record, "reason", reason)
    fields = describe(sandbox, record) | {"seq": 7, "time": "2026-11-24T15:14:00.000001Z"}
    found: Json = json.loads(seal(fields, GENESIS)[0])
    return found


# what each form makes of each action


def test_there_is_an_example_of_every_action_and_decision(made: dict[str, Json]) -> None:
    pairs = {(record["action"], record["decision"]) for record in made.values()}
    wanted = {(action, decision) for action in ACTIONS for decision in ("allow", "deny")} - {(each, "allow") for each in NEVER_ALLOWED}
    assert pairs == wanted


@pytest.mark.parametrize("form", BY_NAME)
@pytest.mark.parametrize("action", ACTIONS)
def test_golden(made: dict[str, Json], action: str, form: str) -> None:
    found = {name: BY_NAME[form](record) for name, record in made.items() if record["action"] == action}
    text = json.dumps(found, indent=1, sort_keys=True).replace(__version__, "VERSION") + "\n"
    golden = GOLDEN / form / f"{action}.json"
    if os.environ.get("STOCKADE_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("form", BY_NAME)
def test_a_record_is_one_line_of_printable_ascii(made: dict[str, Json], form: str) -> None:
    for record in made.values():
        assert re.fullmatch(rb"[ -~]+", line(form, record))


# of a pod


def of_pod(record: Json, **labels: str | None) -> Json:
    found = {name: text for name, text in (POD | labels).items() if text is not None}
    return record | {"sandbox": record["sandbox"] | {"labels": found}}


UNKNOWN: list[dict[str, str | None]] = [
    {},
    {"container": None, "container_id": None, "image": None},
    {"node": None, "service_account": None, "image": None},
    {"namespace": None, "pod": None, "pod_uid": None, "node": None, "service_account": None},
    {"pod_uid": "d41d8cd98f00b204e9800998ecf8427e"},  # of a static pod
]


@pytest.mark.parametrize("labels", UNKNOWN, ids=range(len(UNKNOWN)))
def test_every_record_of_a_pod_is_valid_whatever_is_known_of_it(made: dict[str, Json], labels: dict[str, str | None]) -> None:
    for record in made.values():
        pod = of_pod(record, **labels)
        assert ocsf_errors(ocsf(pod)) == []
        check_ecs(ecs(pod))
        plain = cef(record | {"sandbox": record["sandbox"] | {"labels": {}}})
        assert read_cef(cef(pod))[1].keys() > read_cef(plain)[1].keys()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_of_a_pod_stay_names(made: dict[str, Json], text: str) -> None:
    """An image is named by whoever makes the pod."""
    hostile = dict.fromkeys(POD, text or "x")
    pod, plain = (of_pod(made["http-deny"], **labels) for labels in (hostile, dict.fromkeys(POD, "x")))
    assert ocsf_errors(ocsf(pod)) == []
    check_ecs(ecs(pod))
    assert read_cef(cef(pod))[1].keys() == read_cef(cef(plain))[1].keys()


def test_a_pod_is_in_the_fields_that_each_form_has_for_it(made: dict[str, Json]) -> None:
    record = made["websocket-deny-pod"]
    container = ocsf(record)["device"]["container"]
    assert (container["name"], container["orchestrator"], container["pod_uuid"]) == ("main", "Kubernetes", POD["pod_uid"])
    assert ocsf(record)["device"]["hostname"] == "node1" and "container" in ocsf(record)["metadata"]["profiles"]
    document = ecs(record)
    assert document["orchestrator"]["namespace"] == document["kubernetes"]["namespace"] == "team-a"
    assert document["orchestrator"]["resource"] == {"type": "pod", "name": "agent-0", "id": POD["pod_uid"]}
    assert (document["container"]["image"]["name"], document["host"]["name"]) == (POD["image"], "node1")
    assert document["stockade"]["sandbox"]["name"] == record["sandbox"]["name"]
    fields = read_cef(cef(record))[1]
    assert (fields["shost"], fields["suser"], fields["StockadeNamespace"]) == ("agent-0", "system:serviceaccount:team-a:runner", "team-a")


# OCSF


@functools.cache
def ocsf_validator(uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    return jsonschema.Draft202012Validator(schema.get_class_schema(schema.lookup_class_name_from_uid(uid), list(profiles)))


def ocsf_errors(event: Json) -> list[str]:
    validator = ocsf_validator(event["class_uid"], tuple(event["metadata"]["profiles"]))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(event)]


def test_every_example_is_valid_ocsf(made: dict[str, Json]) -> None:
    assert {name: errors for name, record in made.items() if (errors := ocsf_errors(ocsf(record)))} == {}


def test_the_schema_refuses_what_is_not_ocsf(made: dict[str, Json]) -> None:
    event = ocsf(made["http-allow"])
    assert ocsf_errors(event | {"verdict": "x"}) and ocsf_errors(event | {"severity_id": 77})
    assert ocsf_errors({name: value for name, value in event.items() if name != "metadata"} | {"metadata": {"profiles": []}})


def test_ocsf_captions_are_those_of_the_schema(made: dict[str, Json]) -> None:
    schema = get_ocsf_schema(version=VERSION)
    by_uid = {each["uid"]: each for each in schema["classes"].values()}
    for record in made.values():
        event = ocsf(record)
        attributes = by_uid[event["class_uid"]]["attributes"]
        assert event["class_name"] == by_uid[event["class_uid"]]["caption"]
        for number, caption in (
            ("category_uid", "category_name"),
            ("severity_id", "severity"),
            ("status_id", "status"),
            ("action_id", "action"),
            ("disposition_id", "disposition"),
            ("type_uid", "type_name"),
        ):
            if event[number] % 100 != 99:
                assert attributes[number]["enum"][str(event[number])]["caption"] == event[caption], (event["class_name"], number)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("reason", [Reason.NO_RULE, Reason.ENFORCEMENT_LOST])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_valid_ocsf(action: str, reason: Reason, text: str) -> None:
    assert ocsf_errors(ocsf(hostile(text, Action(action), reason))) == []


def test_what_is_lost_is_a_finding_and_what_is_stated_is_what_was_done(made: dict[str, Json]) -> None:
    lost = ocsf(made["lifecycle-deny"])
    assert (lost["class_name"], lost["severity"], lost["is_alert"]) == ("Detection Finding", "Critical", True)
    assert ocsf(made["inference-allow-redact"])["action"] == "Modified"
    observed = ocsf(made["exec-deny-observed"])
    assert (observed["action"], observed["disposition"], observed["policy"]["is_applied"]) == ("Observed", "Detected", False)


# ECS


def flat(value: Json, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, dict) and f"{path}{name}" not in FIELDS:
            yield from flat(each, f"{path}{name}.")
        else:
            yield path + name, each


def check_ecs(document: Json) -> None:
    for name, value in flat(document):
        if name.startswith(OWN):
            continue
        kind = FIELDS[name]
        for each in value if isinstance(value, list) else [value]:
            assert TYPES[kind](each), (name, kind, each)
    event = document["event"]
    allowed = {kind for category in event["category"] for kind in KINDS[category]}
    assert set(event["type"]) <= allowed, event


def test_every_field_is_one_of_ecs_and_of_its_type(made: dict[str, Json]) -> None:
    for record in made.values():
        check_ecs(ecs(record))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_adds_no_field_to_ecs(action: str, text: str) -> None:
    document = ecs(hostile(text, Action(action)))
    check_ecs(document)
    harmless = ecs(hostile("x", Action(action)))

    def names(value: Json) -> set[str]:
        return {name for name, _ in flat(value) if not name.startswith(("labels.", *OWN))}

    assert names(document) == names(harmless)


# CEF, read back by the rules of its paper and not by ours


def read_cef(text: str) -> tuple[list[str], dict[str, str]]:
    prefix, _, rest = text.partition("CEF:0|")
    assert prefix == ""
    parts = re.split(r"(?<!\\)((?:\\\\)*)\|", rest, maxsplit=6)
    header = [parts[at] + (parts[at + 1] if at + 1 < len(parts) else "") for at in range(0, len(parts), 2)]
    assert len(header) == 7, text
    *header, extension = header
    found: dict[str, str] = {}
    places = list(re.finditer(r"(?:^|(?<= ))([A-Za-z][A-Za-z0-9]*)=", extension))
    for place, following in zip(places, [*places[1:], None], strict=True):
        value = extension[place.end() : following.start() - 1 if following else len(extension)]
        found[place[1]] = re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), value)
    return [re.sub(r"\\(.)", r"\1", each) for each in header], found


def test_cef_is_read_back_as_it_was(made: dict[str, Json]) -> None:
    header, fields = read_cef(cef(made["http-deny"]))
    assert header == ["Stockade", "Stockade", __version__, "http:no_rule", "http deny: no_rule", "4"]
    assert (fields["request"], fields["requestMethod"], fields["cs1Label"], fields["cs1"]) == ("/bot***/getMe", "DELETE", "rule", "web")
    assert json.loads(fields["cs4"]) == {"agent": "claude-code", "team": "billing"}


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=[]), max_size=40))
def test_no_text_adds_a_field_a_line_or_a_control_character(text: str) -> None:
    for action in (Action.HTTP, Action.EXEC, Action.LIFECYCLE):
        record = hostile(text, action)
        for form in BY_NAME:
            assert re.fullmatch(rb"[ -~]+", line(form, record)), form
        header, fields = read_cef(cef(record))
        plain = read_cef(cef(hostile("x", action)))
        assert len(header) == len(plain[0]) and (fields.keys() == plain[1].keys() or not text)
        assert fields["externalId"].startswith("7-") and fields["act"] == "deny" and fields["spid"] == "1"
        if text and re.fullmatch(r"[ -~\n\r]+", text):
            assert fields["dhost"] == text


@pytest.mark.parametrize("text", ["a=b act=allow", "a|b|10|", "a\\", "\\=", "x\ny=1", "\\n", "a\\|b"])
def test_what_ends_fields_in_cef_is_escaped(text: str) -> None:
    header, fields = read_cef(cef(hostile(text)))
    assert (fields["dhost"], fields["act"], header[-1]) == (text, "deny", "4")


@pytest.mark.parametrize("action", Action)
def test_every_reason_and_effect_has_a_form(action: Action) -> None:
    record = hostile("x", action)
    shaped = [record | {"reason": reason.value} for reason in Reason]
    shaped += [record | {"decision": outcome.value, "effect": effect.value} for outcome in Outcome for effect in Effect]
    for each in shaped:
        assert ocsf_errors(ocsf(each)) == []
        check_ecs(ecs(each))
        assert read_cef(cef(each))[1]["outcome"] == each["effect"]
