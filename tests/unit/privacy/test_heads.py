"""What of a request's head is read as prose, what as a form, and what as a credential."""

from __future__ import annotations

import pytest

from stockade.privacy.classify import Classifier
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials
from stockade.proxy.heads import Part, Trust, apart, counting, formed, of_target, parts, parts_of_call, redacted_headers, spelt
from stockade.proxy.ladder import Head
from stockade.proxy.screen import Verdict
from stockade.types import Action, Effect, Reason

UUID = "6b1e2c9a-3a84-4a77-9e30-5b1f2f7f2b1d"


def of_call(path: str = "/v1/chat/completions", *headers: tuple[str, str]) -> list[Part]:
    return parts_of_call(Head("POST", path, None, headers))


@pytest.mark.parametrize(
    ("name", "value", "trust"),
    [
        ("accept", "application/json", Trust.FORMED),
        ("accept", "Rosalind Achterberg", Trust.ALL),
        ("accept-encoding", "gzip, deflate, br, zstd", Trust.FORMED),
        ("accept-encoding", "Rosalind", Trust.ALL),
        ("user-agent", "claude-cli/2.0.14 (external, cli)", Trust.FORMED),
        ("user-agent", "ollama-python/0.6.0 (x86_64 linux) Python/3.13.5", Trust.FORMED),
        ("user-agent", "MRN 84739201", Trust.ALL),
        ("user-agent", "Rosalind Achterberg/1", Trust.ALL),
        ("x-stainless-runtime-version", "3.13.5", Trust.FORMED),
        ("x-note", "3.13.5", Trust.ALL),
        ("anthropic-beta", "claude-code-20250219,oauth-2025-04-20", Trust.FORMED),
        ("idempotency-key", f"stainless-python-retry-{UUID}", Trust.SECRET),
        ("x-anything", UUID, Trust.SECRET),
        ("x-anything", f"{UUID} Rosalind", Trust.ALL),
        ("openai-project", "proj_abCDefGhIjKl", Trust.FORMED),
        ("referer", "https://example.com/", Trust.FORMED),
        ("referer", "https://example.com/patients/Rosalind", Trust.ALL),
        ("authorization", "Bearer sk-ant-api03-abcdefghijkl", Trust.SECRET),
        ("authorization", "Bearer Rosalind Achterberg", Trust.SPOKEN),
        ("authorization", "Bearer Rosalind-Achterberg", Trust.SPOKEN),
        ("x-api-key", "Rosalind Achterberg", Trust.SPOKEN),
        ("x-api-key", "sk-ant-api03-abcdefghijkl", Trust.SECRET),
        ("cookie", "session=abc123; theme=dark", Trust.SECRET),
        ("cookie", "Rosalind Achterberg", Trust.SPOKEN),
    ],
)
def test_a_header_is_prose_unless_the_whole_of_it_has_its_form(name: str, value: str, trust: Trust) -> None:
    part = of_call("/v1/chat/completions", (name, value))[-1]
    assert (part.trust, part.header) == (trust, 0)
    assert value in part.text


def test_the_host_is_no_text_and_everything_else_is() -> None:
    assert [part.header for part in of_call("/", ("host", "api.openai.com"), ("content-length", "12"), ("x-a", "b"))] == [2]
    assert [part.trust for part in of_call("/", ("content-length", "12 Rosalind"))] == [Trust.ALL]
    assert [part.text for part in parts(Head("GET", "/a%20b?c=%2564", None, ()))] == ["/a b?c=%64"]
    assert [part.text for part in parts(Head("GET", "/a+b", None, ()))] == ["/a b", "/a+b"]


@pytest.mark.parametrize(
    ("path", "text", "trust"),
    [
        ("/model/arn:aws:bedrock:us-east-1:123456789012:inference-profile%2Fus.claude-v1:0/converse", "converse", Trust.FORMED),
        ("/v1/engines/Rosalind%20Achterberg/completions", "Rosalind Achterberg", Trust.ALL),
        ("/v1/engines/rosalind-achterberg/completions", "rosalind-achterberg", Trust.ALL),
        ("/v1/engines/gpt-4o-prod/completions", "gpt-4o-prod", Trust.FORMED),
        ("/v1/models?after=Rosalind-Achterberg", "after=Rosalind-Achterberg", Trust.ALL),
        ("/v1/models?limit=20", "limit=20", Trust.FORMED),
        ("/v1beta/models/g-2:embedContent?key=AIzaSyA123", "AIzaSyA123", Trust.SECRET),
    ],
)
def test_what_varies_in_the_target_of_a_call_is_read(path: str, text: str, trust: Trust) -> None:
    assert Part(text, trust) in of_call(path)


def test_which_findings_count() -> None:
    model, form = Finding(0, 1, "pii.person", "model", 0.9), Finding(0, 1, "phi.identifier", "pattern:mrn", 0.9)
    random, own = Finding(0, 1, "credential.key", "random:token", 0.9), Finding(0, 1, "pii.staff", "custom:staff", 1.0)
    key, canary = Finding(0, 1, "credential.key", "vendor:aws", 1.0), Finding(0, 1, "credential.canary", "canary:a", 1.0)
    every = [model, form, random, own, key, canary]
    counted = {trust: counting([Part("x", trust)], [every])[0] for trust in Trust}
    assert counted[Trust.ALL] == every
    assert counted[Trust.FORMED] == [form, own, key, canary]
    assert counted[Trust.SECRET] == [own, canary]
    assert counted[Trust.SPOKEN] == [model, form, own, canary]


def test_what_no_finding_of_the_model_counts_in_is_not_read_by_it() -> None:
    seen = [Part("x", trust) for trust in (Trust.ALL, Trust.FORMED, Trust.SECRET, Trust.SPOKEN)]
    assert (formed(seen), apart(seen)) == ([1, 2], [2])


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "private-token"])
def test_a_credential_and_the_header_behind_it_are_no_third_one(name: str) -> None:
    key = "Bearer cloud-credential-1" if name == "authorization" else "cloud-credential-1"
    head = Head("POST", "/", None, ((name, key), ("user-agent", "python-urllib/3.13"), ("content-type", "application/json")))
    classifier = Classifier([Credentials()])
    for seen in (parts(head), parts_of_call(head)):
        texts = [part.text for part in seen]
        assert any(counting(seen, classifier.classify(texts, conversation=True)))  # what it would be, read on
        assert not any(counting(seen, classifier.classify(texts, conversation=True, formed=formed(seen), apart=apart(seen))))


def test_a_header_in_utf_8_is_read_as_that_and_sent_as_it_came() -> None:
    sent = "Zoë".encode().decode("latin-1")
    assert (spelt(sent), spelt("Zo\xeb")) == ("Zoë", "Zoë")
    head = Head("GET", "/", None, (("a", sent), ("b", "Zo\xeb"), ("c", "x"), ("te", "trailers"), ("d", "gone")))
    assert redacted_headers(head, {2: "Zoë", 4: None}) == (("a", sent), ("b", "Zo\xeb"), ("c", sent))


def test_no_record_tells_what_was_found_in_a_path() -> None:
    seen = [Part("/patients/Rosalind Achterberg/notes", Trust.ALL), Part("x-a: Rosalind", Trust.ALL, 0)]
    found = [[Finding(10, 29, "pii.person", "model", 0.9)], [Finding(5, 13, "pii.person", "model", 0.9)]]
    unsaid = of_target(seen, found)
    assert unsaid == ("Rosalind Achterberg",)
    verdict = Verdict(Effect.REFUSE, Reason.SCAN_FOUND, Action.HTTP, unsaid=unsaid)
    assert verdict.told("/patients/Rosalind%20Achterberg/notes") == "/patients/*/notes"
    assert verdict.told("/patients/Rosalind+Achterberg/notes") == "/patients/*/notes"
    assert verdict.told("/other") == "/other"
    assert Verdict(Effect.REFUSE, Reason.SCAN_FOUND, Action.HTTP, unsaid=("a/b",)).told("/x/a/b/c") == "/*"
