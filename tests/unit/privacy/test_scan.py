"""What `on_found: redact` can take out of a request, and where it says that it cannot."""

from __future__ import annotations

import pytest

from stockade.privacy.finding import Finding
from stockade.privacy.redact import masked
from stockade.proxy.ladder import Head
from stockade.proxy.router import after, both
from stockade.proxy.scan import Fixed, _same_form, without
from stockade.proxy.screen import Verdict
from stockade.types import Action, Effect, Reason


@pytest.mark.parametrize(
    ("target", "values", "made"),
    [
        ("/a?q=secret&b=2", ["secret"], "/a?q=********&b=2"),
        ("/a?q=x%20secret", ["secret"], "/a?q=********"),
        ("/a?q=s%2Be", ["s+e"], "/a?q=********"),
        ("/a?q=s+e", ["s e"], "/a?q=********"),
        ("/a?secret=1&b=2", ["secret"], "/a?********&b=2"),
        ("/a?secret&b=2", ["secret"], "/a?********&b=2"),
        ("/a?a=secret&b=secret", ["secret"], "/a?a=********&b=********"),
    ],
)
def test_a_parameter_is_masked_whole(target: str, values: list[str], made: str) -> None:
    assert without(target, values) == made


@pytest.mark.parametrize(
    ("target", "values"),
    [("/secret?a=1", ["secret"]), ("/se%63ret", ["secret"]), ("/a?q=sec&r=ret", ["sec&r=ret"]), ("/secret?q=secret", ["secret"])],
)
def test_a_path_is_not_changed(target: str, values: list[str]) -> None:
    with pytest.raises(Fixed):
        without(target, values)


def test_json_stays_json_or_is_refused() -> None:
    text = '{"card": 4111111111111111, "key": "x4111111111111111"}'
    quoted = [Finding(text.index("x"), text.rindex('"'), "financial.card", "pattern:card", 1.0)]
    assert _same_form(text, masked(text, quoted)) == '{"card": 4111111111111111, "key": "********"}'
    with pytest.raises(Fixed):
        _same_form(text, masked(text, [Finding(9, 25, "financial.card", "pattern:card", 1.0)]))
    assert _same_form("no JSON {", "********") == "********"


def test_what_a_scan_took_out_stays_out_of_a_call_whatever_becomes_of_it() -> None:
    found = Verdict(Effect.REDACT, Reason.SCAN_FOUND, Action.HTTP, body=b"scanned", detail={"redacted": ["a=1"]}, unsaid=("a",))
    head, body = after(found, Head("POST", "/", None, (("content-encoding", "gzip"), ("a", "b"))), b"packed")
    assert (head.headers, body) == ((("a", "b"),), b"scanned")
    passed = both(found, Verdict(Effect.PASS, Reason.PRIVACY_PASS, Action.INFERENCE))
    assert passed is not None
    assert (passed.effect, passed.body, passed.action, passed.detail["scan_redacted"]) == (
        Effect.REDACT,
        b"scanned",
        Action.INFERENCE,
        ["a=1"],
    )
    assert both(None, None) is None
    assert both(found, None) is found
    later = both(found, Verdict(Effect.LOCAL, Reason.PRIVACY_ROUTE, Action.INFERENCE, body=b"x", otherwise=lambda _failure: passed))
    assert later is not None
    assert later.otherwise is not None
    failed = Verdict(Effect.REDACT, Reason.PRIVACY_LOCAL_FAILURE, Action.INFERENCE)
    again = both(found, Verdict(Effect.LOCAL, Reason.PRIVACY_ROUTE, Action.INFERENCE, otherwise=lambda _failure: failed))
    assert again is not None
    assert again.otherwise is not None
    assert again.otherwise(None).body == b"scanned"  # type: ignore[arg-type]
