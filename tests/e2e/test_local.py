"""The local model in the place of a cloud's, live: agents with the official clients, and real servers of each API on the host's loopback.

Everything that is asked here holds a patient's name, so nothing of it may reach a cloud: each test looks for that in the clouds' own logs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework import local_models
from framework.internet import CLOUD, EU, Internet
from framework.machine import Machine, Result, wait_for
from framework.patience import PATIENCE
from framework.policy import http, whole

INSIDE = Path(__file__).parent / "inside"
PATIENT = "Rosalind Achterberg"
ASKED = f"How is {PATIENT}?"
PYTHON = "/usr/bin/python3"
KEY = "STOCKADE_TEST_LOCAL_KEY"
SECONDS = int(2 * PATIENCE)  # of silence, where that is what fails
Said = dict[str, Any]
pytestmark = [pytest.mark.network, pytest.mark.client(PYTHON)]

CHATS = [f"{client}.{case}" for client in ("openai", "anthropic", "ollama", "gemini") for case in ("chat", "stream", "tool", "tool_stream")]
CASES = [
    *CHATS,
    *("openai.responses", "openai.responses_stream", "openai.responses_tool", "openai.completion", "openai.embed"),
    *("ollama.generate", "ollama.embed"),
]
RETOLD = f"You said: {ASKED}"
AFTER = f"You said: the tool said: {PATIENT} is well"


def policy(url: str, **more: Any) -> str:
    """more: of `local`; `privacy` is for the whole section."""
    custom = [{"name": "patients", "pattern": PATIENT, "category": "phi.identifier"}]
    local = {"url": url, "model": "plain", "models": {"gpt-*": "plain"}} | more
    section: Said = {"endpoints": [EU], "detect": {"custom": custom}} | more.pop("privacy", {})
    local.pop("privacy", None)
    rule = http("python3", CLOUD[0], CLOUD[1], EU, methods=["GET", "POST"], name="models")
    return whole(rule, allow=["python3"], privacy=section | {"local": local})


def start(machine: Machine, text: str, cases: list[str], model: str = "gpt-plain", **env: str) -> Any:
    try:
        site = local_models.clients()
    except RuntimeError as error:
        pytest.skip(str(error))
    room = machine.room({"sdk.py": (INSIDE / "sdk.py").read_text()})
    settings = {"MODEL": model, "OLLAMA_CLOUD": f"https://{EU}"} | env
    words: list[str | Path] = ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), PYTHON, "sdk.py", site, *cases]
    return machine.start(words, policy=text, room=room, options=["--bind", f"{site}:ro"], env={KEY: "local-credential-7"})


def said(result: Result) -> dict[str, Said]:
    assert result.status == 0, result
    return {line["case"]: line for line in map(json.loads, result.stdout.splitlines())}


def run(machine: Machine, text: str, cases: list[str], model: str = "gpt-plain") -> tuple[dict[str, Said], Result]:
    with start(machine, text, cases, model) as running:
        result = running.finish(120)
    return said(result), result


@pytest.fixture
def clouds(internet: Internet) -> Iterator[list[bytes]]:
    """What the clouds are sent; after the test, that nobody's name was in it."""
    before = {host: len(internet.heard[host]) for host in (*CLOUD, EU) if host in internet.heard}
    sent: list[bytes] = []
    yield sent
    sent += [
        each.path.encode() + repr(each.headers).encode() + each.body for host in before for each in internet.heard[host][before[host] :]
    ]
    assert not [each for each in sent if b"Achterberg" in each]


@pytest.fixture(params=["openai", "ollama"])
def strict(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[local_models.Server]:
    yield from _served(lambda: local_models.strict(request.param, tmp_path))


@pytest.fixture
def openai_server(tmp_path: Path) -> Iterator[local_models.Server]:
    yield from _served(lambda: local_models.strict("openai", tmp_path))


def _served(make: Any) -> Iterator[local_models.Server]:
    try:
        server = make()
    except RuntimeError as error:
        pytest.skip(str(error))
    with server:
        yield server


def test_each_client_hears_its_own_api(
    machine: Machine, internet: Internet, clouds: list[bytes], strict: local_models.Server, request: pytest.FixtureRequest
) -> None:
    api = request.node.callspec.params["strict"]
    answers, result = run(machine, policy(strict.url, api=api, api_key_env=KEY), CASES)
    called = {"name": "look", "arguments": {"mrn": "Zoë-12"}}
    for client, model_stop, tool_stop in (
        ("openai", "stop", "tool_calls"),
        ("anthropic", "end_turn", "tool_use"),
        ("ollama", "stop", None),
    ):
        stop = {"stop": tool_stop} if tool_stop else {}
        assert answers[f"{client}.chat"] == {"case": f"{client}.chat", "text": RETOLD, "model": "gpt-plain", "stop": model_stop}, result
        assert answers[f"{client}.stream"] == {"case": f"{client}.stream", "text": RETOLD, "stop": model_stop, "usage": True}
        assert answers[f"{client}.tool"] == {"case": f"{client}.tool", "called": called | stop, "text": AFTER}
        assert answers[f"{client}.tool_stream"]["called"] == called | stop
    gemini = {"text": RETOLD, "stop": "STOP"}
    assert answers["gemini.chat"] == {"case": "gemini.chat", "model": "gpt-plain"} | gemini
    assert answers["gemini.stream"] == {"case": "gemini.stream", "usage": True} | gemini
    after = f'You said: the tool said: {{"said":"{PATIENT} is well"}}'
    for case in ("gemini.tool", "gemini.tool_stream"):
        assert answers[case] == {"case": case, "called": called, "text": after}
    assert answers["anthropic.tool_stream"]["text"] == answers["ollama.tool_stream"]["text"] == AFTER
    assert answers["openai.responses"] == {"case": "openai.responses", "text": RETOLD, "model": "gpt-plain"}
    assert answers["openai.responses_stream"] == {"case": "openai.responses_stream", "text": RETOLD, "last": True}
    assert answers["openai.responses_tool"] == {"case": "openai.responses_tool", "called": called, "text": AFTER}
    assert answers["openai.completion"] == {"case": "openai.completion", "text": RETOLD, "same": True}
    assert answers["ollama.generate"] == {"case": "ollama.generate", "text": RETOLD, "same": True}
    assert answers["openai.embed"] == {"case": "openai.embed", "sizes": [3, 3], "same": True}
    assert answers["ollama.embed"] == {"case": "ollama.embed", "sizes": [3, 3], "same": True}
    assert KEY not in answers["environment"]["names"]
    heard = strict.heard()
    assert all(each["headers"]["authorization"] == "Bearer local-credential-7" for each in heard)
    assert not [each for each in heard if "sk-cloud-4711-0815" in json.dumps(each) or "account-of-the-client" in json.dumps(each)]
    assert {json.loads(each["body"])["model"] for each in heard} == {"plain"}
    records = result.select(action="inference")
    assert len(records) == len(heard) == 35
    assert {(each["effect"], each["rule"], each["detail"]["residency"]) for each in records} == {("local", "default:patients", "local")}
    assert {each["detail"]["local_model"] for each in records} == {"plain"}
    assert {each["detail"]["local_host"] for each in records} == {f"localhost:{strict.port}"}
    assert all(len(each["detail"]["answer_sha256"]) == 64 and each["http"]["status"] == 200 for each in records)
    tools = [each for each in records if each["detail"]["answer_tools"]]
    assert len(tools) == 9 and all(each["detail"]["answer_tools"] == ["look"] for each in tools)
    assert "local-credential-7" not in result.audit.read_text()


def test_llama_cpps_own_server_is_asked_and_understood(machine: Machine, internet: Internet, clouds: list[bytes], tmp_path: Path) -> None:
    """With a model whose words mean nothing, but whose calls of a tool follow its schema: what is real here is the server."""
    for server in _served(lambda: local_models.llama(tmp_path)):
        answers, result = run(machine, policy(server.url, context=4096), CASES)
    stops = (
        ("openai", "length", "tool_calls"),
        ("anthropic", "max_tokens", "tool_use"),
        ("ollama", "length", None),
        ("gemini", "MAX_TOKENS", None),
    )
    for client, few, tool_stop in stops:
        chat, stream = answers[f"{client}.chat"], answers[f"{client}.stream"]
        assert (chat["model"], chat["stop"], stream["stop"], stream["usage"]) == ("gpt-plain", few, few, True), result
        assert chat["text"] == stream["text"] == answers["openai.chat"]["text"] and len(chat["text"]) == 40
        for case in ("tool", "tool_stream"):
            called = answers[f"{client}.{case}"]["called"]
            assert called["name"] == "look" and called["arguments"]["mrn"] in ("A-12", "B-13") and len(called["arguments"]) == 1, result
            assert called.get("stop") == tool_stop
        assert len(answers[f"{client}.tool"]["text"]) == 40
    assert answers["openai.responses"]["text"] == answers["openai.responses_stream"]["text"] == answers["openai.chat"]["text"]
    assert answers["openai.responses_stream"]["last"] and len(answers["openai.responses_tool"]["text"]) == 40
    assert answers["openai.completion"]["same"] and len(answers["openai.completion"]["text"]) == 40
    assert answers["ollama.generate"]["same"]
    assert answers["openai.embed"] == {"case": "openai.embed", "sizes": [64, 64], "same": True}
    assert answers["ollama.embed"] == {"case": "ollama.embed", "sizes": [64, 64], "same": True}
    records = result.select(action="inference")
    assert {(each["effect"], each["http"]["status"]) for each in records} == {("local", 200)} and len(records) == 35


# What record and client are told of each way in which the server fails; of a stream, in a second line where it is something else.
FAILURES = {
    "silent": f"it says nothing for {SECONDS} seconds",
    "garbage": "the local server does not speak the API it is said to speak\nthe answer ended before it was done",
    "fails": "the local model answers with 500 (out_of_memory)",
    "too-long": "the call is longer than what the local model takes",
    "elsewhere": "the local model answers with 307",
    "packed": "the local model answers in an encoding that it was not asked for",
}
BROKEN = {
    "hangs": f"it says nothing for {SECONDS} seconds in the middle of its answer",
    "breaks": "the local model stopped in the middle of its answer",
}


def failing(url: str, on_local_failure: str) -> str:
    models = {f"*-{name}": name for name in (*FAILURES, *BROKEN)}
    return policy(url, models=models, timeout=SECONDS, privacy={"on_local_failure": on_local_failure})


def ask(name: str, **more: Any) -> Said:
    body = {"model": f"gpt-{name}", "messages": [{"role": "user", "content": ASKED}]} | more
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-cloud-4711-0815"}
    return {"url": f"https://{CLOUD[0]}/v1/chat/completions", "body": json.dumps(body), "headers": headers}


def say(machine: Machine, text: str, requests: list[Said]) -> tuple[list[Said], Result]:
    files = {"says.py": (INSIDE / "says.py").read_text(), "requests.json": json.dumps(requests)}
    result = machine.run([PYTHON, "says.py", "requests.json"], policy=text, files=files)
    assert result.status == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()], result


def test_a_local_server_that_fails_is_no_way_to_the_cloud(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    before = len(internet.heard[CLOUD[0]])
    asked = [ask(name, stream=stream) for name in FAILURES for stream in (False, True)]
    long = ask("plain", messages=[{"role": "user", "content": f"{ASKED} {'word ' * 8000}"}])
    answers, result = say(machine, failing(openai_server.url, "deny"), [*asked, *(ask(name, stream=True) for name in BROKEN), long])
    records = result.select(action="inference")
    whys = [why for whole, *streamed in map(str.splitlines, FAILURES.values()) for why in (whole, *(streamed or [whole]))]
    for answer, record, why in zip(answers, records, whys, strict=False):
        assert answer["status"] == 403 and why in json.loads(answer["body"])["error"]["message"], result
        context = why == FAILURES["too-long"]
        assert record["reason"] == ("privacy_context" if context else "privacy_local_failure"), result
        assert (record["effect"], why in record["detail"]["local_failure"]) == ("refuse", True), record
    for answer, record, why in zip(answers[12:14], records[12:14], BROKEN.values(), strict=True):
        *_, told = [json.loads(line[5:]) for line in answer["body"].splitlines() if line.startswith("data:")]
        assert answer["status"] == 200 and why in told["error"]["message"] and "[DONE]" not in answer["body"], result
        assert (record["effect"], record["reason"], why in record["detail"]["local_failure"]) == ("local", "privacy_local_failure", True)
    assert (answers[14]["status"], records[14]["reason"]) == (403, "privacy_context"), (
        result
    )  # nobody was asked: it is known to be too long
    assert len(records) == 15 and len(openai_server.heard()) == 14
    assert len(internet.heard[CLOUD[0]]) == before
    assert "cannot answer" not in result.audit.read_text()  # servers repeat what they were asked


def test_redact_on_local_failure_takes_everything_out_that_was_found(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    """Each place that got a call has a record: the local one that failed, and the cloud. What is too long or broke off goes nowhere."""
    before = len(internet.heard[CLOUD[0]])
    asked = [ask("fails"), ask("silent", stream=True), ask("too-long"), ask("hangs", stream=True)]
    answers, result = say(machine, failing(openai_server.url, "redact"), asked)
    sent = [json.loads(each.body)["messages"][0]["content"] for each in internet.heard[CLOUD[0]][before:]]
    assert len(sent) == 2 and all(text.startswith("How is [") for text in sent), result
    assert [answer["status"] for answer in answers] == [200, 200, 403, 200]
    assert json.loads(answers[0]["body"])["choices"][0]["message"]["content"] == RETOLD
    assert PATIENT in "".join(
        json.loads(line[5:])["choices"][0]["delta"].get("content", "")
        for line in answers[1]["body"].splitlines()
        if line.startswith("data: {")
    )
    records = [(each["effect"], each["reason"]) for each in result.select(action="inference")]
    again = [("refuse", "privacy_local_failure"), ("redact", "privacy_local_failure")]
    assert records == [*again, *again, ("refuse", "privacy_context"), ("local", "privacy_local_failure")], result
    redacted = result.select(action="inference", effect="redact")
    assert [each["detail"]["redacted"] for each in redacted] == [["phi.identifier=1"]] * 2
    assert FAILURES["fails"] in redacted[0]["detail"]["local_failure"]


def test_a_server_that_is_down_fails_each_client_in_its_own_words(machine: Machine, internet: Internet, clouds: list[bytes]) -> None:
    """Whole and streamed."""
    answers, result = run(machine, policy("http://localhost:9"), ["openai.chat", "openai.responses_stream", "ollama.chat"])
    for case, raised in (
        ("openai.chat", "APIStatusError"),
        ("openai.responses_stream", "APIStatusError"),
        ("ollama.chat", "ResponseError"),
    ):
        assert raised in answers[case]["base"] and "it cannot be reached" in answers[case]["said"], result
    assert {(each["effect"], each["reason"]) for each in result.select(action="inference")} == {("refuse", "privacy_local_failure")}


def test_a_stream_that_stops_is_an_error_of_each_client(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    cases = ["openai.stream", "openai.responses_stream", "anthropic.stream", "ollama.stream"]
    answers, result = run(machine, failing(openai_server.url, "deny"), cases, "gpt-breaks")
    assert "APIError" in answers["openai.stream"]["base"] and "stopped in the middle" in answers["openai.stream"]["said"], result
    assert "error" in answers["openai.responses_stream"], result
    assert "APIError" in answers["anthropic.stream"]["base"] and "stopped in the middle" in answers["anthropic.stream"]["said"]
    assert "ResponseError" in answers["ollama.stream"]["base"] and "stopped in the middle" in answers["ollama.stream"]["said"]
    assert [each["reason"] for each in result.select(action="inference")] == ["privacy_local_failure"] * 4


def test_who_comes_when_the_queue_is_full_is_refused_and_who_waits_is_answered(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    text = policy(openai_server.url, model="waits", models={}, parallel=1, queue=1)
    files = {"says.py": (INSIDE / "says.py").read_text(), "requests.json": json.dumps([ask("plain")])}
    three = f"for each in 1 2 3; do {PYTHON} says.py requests.json & done; wait"
    with machine.start(["sh", "-c", three], policy=text.replace("- python3", "- python3\n  - sh", 1), files=files) as running:
        wait_for(
            lambda: [each for each in running.records() if each.get("reason") == "privacy_local_failure"], "a refusal", running=running
        )
        wait_for(openai_server.heard, "the one that has the place at the server", running=running)
        assert len(openai_server.heard()) == 1  # one is answered, one waits
        openai_server.release()
        result = running.finish()
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(answer["status"] for answer in answers) == [200, 200, 403], result
    records = result.select(action="inference")
    (refused,) = [each for each in records if each["effect"] == "refuse"]
    assert refused["detail"]["local_failure"] == "too many calls wait for the local model"
    assert [each["detail"].get("queued_ms", 0) > 0 for each in records if each["effect"] == "local"].count(True) == 1
    assert len(openai_server.heard()) == 2


def test_what_is_not_translated_says_why(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    messages = {"model": "claude-plain", "messages": [{"role": "user", "content": ASKED}]}
    headers = {"Content-Type": "application/json"}
    count = {"url": f"https://{CLOUD[1]}/v1/messages/count_tokens", "body": json.dumps(messages), "headers": headers}
    several, logprobs = ask("plain", n=2), ask("plain", logprobs=True)
    answers, result = say(machine, policy(openai_server.url), [count, several, logprobs])
    assert [answer["status"] for answer in answers] == [403] * 3, result
    whys = [each["detail"]["local_failure"] for each in result.select(action="inference")]
    assert whys == [
        "a local model counts tokens of its own kind",
        "it asks for several answers",
        "it asks for probabilities or for an echo of the prompt",
    ]
    assert not openai_server.heard()


LEAVES = """
import http.client, json, time
from pathlib import Path
def post(each):
    _, _, host, path = each["url"].split("/", 3)
    connection = http.client.HTTPSConnection(host, timeout=60)
    connection.request("POST", f"/{path}", each["body"], each["headers"])
    return connection
first, second = json.loads(Path("requests.json").read_text())
connection = post(first)
while not Path("leave").exists():
    time.sleep(0.05)
connection.close()
print(post(second).getresponse().read().decode())
"""


def test_a_client_that_leaves_takes_its_place_along(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    """Nobody else would be answered otherwise: here there is one place, and no queue."""
    text = policy(openai_server.url, models={"gpt-waits": "waits"}, parallel=1, queue=0)
    room = machine.room({"leaves.py": LEAVES, "requests.json": json.dumps([ask("waits"), ask("plain")])})
    with machine.start([PYTHON, "leaves.py"], policy=text, room=room) as running:
        wait_for(openai_server.heard, "the first call", running=running)
        (room / "work/leave").touch()
        result = running.finish()
    assert result.status == 0 and json.loads(result.stdout)["choices"][0]["message"]["content"] == RETOLD, result
    records = [(each["effect"], each["reason"]) for each in result.select(action="inference")]
    assert records == [("cut", "interrupted"), ("local", "privacy_default")], result


@pytest.mark.client("curl")
def test_a_client_of_http2_is_answered_too(
    machine: Machine, internet: Internet, clouds: list[bytes], openai_server: local_models.Server
) -> None:
    bodies = {"whole.json": ask("plain")["body"], "stream.json": ask("plain", stream=True)["body"], "fails.json": ask("fails")["body"]}
    url, kind = f"https://{CLOUD[0]}/v1/chat/completions", "content-type: application/json"
    # one connection for all three: what answers one of them is no other's
    each = " --next ".join(f"-sS --http2 -w '%{{http_version}} %{{http_code}}\\n' -H '{kind}' -d @{name} {url}" for name in bodies)
    text = policy(openai_server.url, models={"gpt-fails": "fails"}).replace("python3", "curl")
    result = machine.run(["sh", "-c", f"curl {each}"], policy=text, files=bodies)
    assert result.status == 0, result
    whole_answer, *lines = result.stdout.splitlines()
    assert json.loads(whole_answer.removesuffix("2 200"))["choices"][0]["message"]["content"] == RETOLD
    deltas = [json.loads(line[5:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
    assert "".join(delta.get("content") or "" for delta in deltas) == RETOLD
    assert (lines[-1], "2 200" in lines) == ("2 403", True), result
    assert [each["effect"] for each in result.select(action="inference")] == ["local", "local", "refuse"]
