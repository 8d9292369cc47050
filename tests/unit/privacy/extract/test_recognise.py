"""Which request is an inference call: by truth table; and no way around it on a host that serves models."""

from __future__ import annotations

import gzip

import pytest

from stockade.privacy.extract import Api, Unknown, is_endpoint, leaves_nothing, ordinary, recognise

UNKNOWN = Unknown("unknown_body")

KNOWN = [
    ("api.openai.com", "/v1/chat/completions", Api.OPENAI_CHAT),
    ("api.openai.com:443", "/v1/responses", Api.OPENAI_RESPONSES),
    ("API.OpenAI.com.", "/v1/embeddings", Api.OPENAI_EMBEDDINGS),
    ("me.openai.azure.com", "/openai/deployments/d/chat/completions?api-version=2024-10-21", Api.OPENAI_CHAT),
    ("api.anthropic.com", "/v1/messages?beta=true", Api.ANTHROPIC_MESSAGES),
    ("api.anthropic.com", "/v1/messages/count_tokens", Api.ANTHROPIC_COUNT_TOKENS),
    ("generativelanguage.googleapis.com", "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse", Api.GEMINI),
    (
        "europe-west4-aiplatform.googleapis.com",
        "/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict",
        Api.ANTHROPIC_MESSAGES,
    ),
    ("chatgpt.com", "/backend-api/codex/responses", Api.OPENAI_RESPONSES),
    ("gateway.example.com", "/codex/responses", Api.OPENAI_RESPONSES),
    ("cloudcode-pa.googleapis.com", "/v1internal:streamGenerateContent?alt=sse", Api.GEMINI_CODE_ASSIST),
    ("gateway.example.com", "/v1internal:generateContent", Api.GEMINI_CODE_ASSIST),
    ("cloudcode-pa.googleapis.com", "/v1internal:loadCodeAssist", Api.GEMINI_CODE_ASSIST),
    ("aiplatform.eu.rep.googleapis.com", "/v1/projects/p/locations/eu/publishers/google/models/g:generateContent", Api.GEMINI),
    ("bedrock-runtime.eu-west-1.amazonaws.com", "/model/anthropic.claude-v2/invoke-with-response-stream", Api.BEDROCK_INVOKE),
    ("bedrock-runtime.eu-west-1.amazonaws.com", "/model/arn%3Aaws%3Abedrock%3Ax%2Fy/converse", Api.BEDROCK_CONVERSE),
    ("127.0.0.1:11434", "/api/chat", Api.OLLAMA_CHAT),
    ("localhost:11434", "/api/generate", Api.OLLAMA_GENERATE),
    ("[::1]:8000", "/v1/chat/completions", Api.OPENAI_CHAT),
    ("gateway.example.com", "/llm/v1/chat/completions", Api.OPENAI_CHAT),
]


@pytest.mark.parametrize(("host", "path", "api"), KNOWN)
def test_known(host: str, path: str, api: Api) -> None:
    assert recognise(host, "POST", path) is api


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/V1/Chat/Completions",
            "/v1/chat/completions/",
            "/v1/./chat//completions",
            "/v1/x/../chat/completions",
            "/v9beta/chat/completions",
        ),
        *("/v1/%63hat/completions", "/v1/%2563hat/completions", "/v1/chat;x=1/completions"),
    ],
)
def test_other_spellings_are_the_same_call(path: str) -> None:
    assert recognise("api.openai.com", "POST", path) is recognise("gateway.example.com", "POST", path) is Api.OPENAI_CHAT


@pytest.mark.parametrize(
    "path",
    ["/v1/threads/t/messages/m", "/v1/batches", "/v1/fine_tuning/jobs", "/v1/uploads", "/", "/anything", "/v1/chat/completions?note=x"],
)
def test_any_other_body_at_such_a_host_is_unknown(path: str) -> None:
    assert recognise("api.openai.com", "POST", path) == UNKNOWN
    assert recognise("models.corp.example", "POST", path, ["*.corp.example"]) == UNKNOWN


@pytest.mark.parametrize(
    "host",
    [
        *("chatgpt.com", "cloudcode-pa.googleapis.com", "daily-cloudcode-pa.googleapis.com", "aiplatform.us-central1.rep.googleapis.com"),
        *("q.us-east-1.amazonaws.com", "codewhisperer.us-east-1.amazonaws.com"),
    ],
)
def test_whatever_else_is_said_to_the_host_of_a_command_line_is_unknown(host: str) -> None:
    assert is_endpoint(host)
    assert recognise(host, "POST", "/anything") == UNKNOWN
    for other in (f"{host}.example.com", f"{host}x", "notchatgpt.com", "storage.eu.rep.googleapis.com", "s3.us-east-1.amazonaws.com"):
        assert not is_endpoint(other)


def test_only_a_listing_leaves_nothing() -> None:
    listing = recognise("api.openai.com", "GET", "/v1/models?limit=20")
    assert isinstance(listing, Unknown) and leaves_nothing(listing, [("accept", "*/*")], b"")
    models = recognise("chatgpt.com", "GET", "/backend-api/codex/models?client_version=0.60.1")
    assert isinstance(models, Unknown) and leaves_nothing(models, [], b"")
    assert not leaves_nothing(listing, [], b"{}")
    assert not leaves_nothing(listing, [("Upgrade", "websocket")], b"")
    for method, path in (
        ("GET", "/v1/realtime"),
        ("GET", "/v1/models?note=text"),
        ("POST", "/v1/batches"),
        ("PUT", "/v1/chat/completions"),
    ):
        found = recognise("api.openai.com", method, path)
        assert isinstance(found, Unknown) and not leaves_nothing(found, [], b"")


@pytest.mark.parametrize(
    ("host", "path"),
    [("example.com", "/"), ("api.openai.com.evil.example", "/v1/x"), ("localhost", "/api/tags"), ("", "")],
)
def test_no_endpoint(host: str, path: str) -> None:
    assert recognise(host, "POST", path) is None


SHARED = [
    ("ollama.hospital.org", "/api/chat", Api.OLLAMA_CHAT),
    ("llm.corp.example:8443", "/api/generate/", Api.OLLAMA_GENERATE),
    ("llm.corp.example", "/ollama/api/embed", Api.OLLAMA_EMBED),
    ("llm.corp.example", "/api/embeddings", Api.OLLAMA_EMBED),
    ("vllm.corp.example", "/v1/rerank", Api.COHERE_RERANK),
]


@pytest.mark.parametrize(("host", "path", "api"), SHARED)
def test_a_model_server_of_any_name_is_known_by_paths_that_others_have_too(host: str, path: str, api: Api) -> None:
    assert recognise(host, "POST", path) is recognise(host, "post", f"{path}?stream=maybe") is api
    assert [recognise(host, method, path) for method in ("GET", "PUT", "OPTIONS")] == [None] * 3


JSON = ("content-type", "application/json")
CALLS = [
    b'{"model": "m", "messages": []}',
    b' {"MODEL": "m"}',
    b'{"me\\u017f\\u017fages": []}',  # which Go folds into an s
    b'{"prompt": "x"} and more',
    b'{"model": "m", "model": "n"}',
    b'\xef\xbb\xbf{"query": "x", "documents": []}',
    '{"prompt": "x"}'.encode("utf-16"),
    b"{",
]
OTHERS = [
    b"",
    b"prompt=x&model=m",
    b'{"room": "lobby", "text": "model"}',
    b"[1]",
    b'"model"',
    b"--x\r\nContent-Disposition: form-data",
    b"\n7",
]


def test_what_is_plainly_no_call_is_left_to_the_service_whose_path_it_is() -> None:
    at = ("POST", "/api/chat")
    assert [body for body in CALLS if ordinary("app.example.com", at, [JSON], body)] == []
    assert [body for body in OTHERS if not ordinary("app.example.com", at, [], body)] == []
    assert not ordinary("app.example.com", at, [], None)
    packed = [("content-encoding", "gzip")]
    assert ordinary("app.example.com", at, packed, gzip.compress(OTHERS[2]))
    assert not ordinary("app.example.com", at, packed, gzip.compress(CALLS[0]))
    assert not ordinary("app.example.com", at, [("content-encoding", "x-own")], OTHERS[2])
    for host, path in (("localhost", "/api/chat"), ("api.openai.com", "/v1/rerank"), ("app.example.com", "/v1/chat/completions")):
        assert not ordinary(host, ("POST", path), [], OTHERS[2])
    assert not ordinary("llm.corp.example", at, [], OTHERS[2], ["*.corp.example"])
