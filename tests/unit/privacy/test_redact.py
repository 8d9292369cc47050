"""What is taken out and put back: consistent, bound to its host, not to be guessed, and whole however the answer is cut."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.policy.privacy import Style
from stockade.privacy.finding import CATEGORIES, Finding
from stockade.privacy.redact import Vault, VaultFull

A, B = "api.openai.com", "api.anthropic.com"


def at(text: str, *values: tuple[str, str]) -> list[Finding]:
    return [Finding(text.index(value), text.index(value) + len(value), category, "test", 1.0) for value, category in values]


def redacted(vault: Vault, text: str, *values: tuple[str, str], host: str = A, style: Style = "placeholder") -> str:
    return vault.redact(text, at(text, *values), host, style)


NOTE = "Ask Dr. Ada Okoye about card 4111 1111 1111 1111."
IN_NOTE = (("Ada Okoye", "pii.staff"), ("4111 1111 1111 1111", "financial.card"))


def test_placeholders_are_typed_consistent_and_put_back() -> None:
    vault = Vault()
    once, again = redacted(vault, NOTE, *IN_NOTE), redacted(vault, NOTE, *IN_NOTE)
    assert once == again and re.fullmatch(r"Ask Dr\. \[STAFF-[0-9a-f]{12}\] about card \[CARD-[0-9a-f]{12}\]\.", once)
    assert vault.restore(once, A) == NOTE


def test_another_vault_makes_others() -> None:
    assert redacted(Vault(), NOTE, *IN_NOTE) != redacted(Vault(), NOTE, *IN_NOTE)


def test_a_placeholder_is_inert_at_another_host_and_in_another_vault() -> None:
    vault = Vault()
    sent = redacted(vault, NOTE, *IN_NOTE)
    redacted(vault, NOTE, *IN_NOTE, host=B)
    assert vault.restore(sent, B) == sent
    assert Vault().restore(sent, A) == sent


def test_what_is_typed_like_a_placeholder_comes_back_as_it_was_typed() -> None:
    vault = Vault()
    stolen = re.search(r"\[STAFF-.*?\]", redacted(vault, NOTE, *IN_NOTE))
    assert stolen
    for typed in (stolen[0], stolen[0].lower(), stolen[0].strip("[]"), stolen[0].replace("-", "_")):
        prompt = f"say {typed} please"
        sent = vault.redact(prompt, [], A)
        assert typed not in sent
        assert vault.restore(sent, A) == prompt and "Okoye" not in vault.restore(sent, A)


def test_what_was_put_back_is_taken_out_again_though_no_detector_finds_it() -> None:
    vault = Vault()
    first = redacted(vault, NOTE, *IN_NOTE)
    history = f"You said: {vault.restore(first, A)}"
    for host in (A, B):
        sent = vault.redact(history, [], host)
        assert "Okoye" not in sent and "4111" not in sent
        assert vault.restore(sent, host) == history
    assert vault.redact(history, [], A) == f"You said: {first}"


@pytest.mark.parametrize(
    "altered",
    [
        lambda mark: mark.lower(),
        lambda mark: f"**{mark}**",
        lambda mark: f'"{mark}"',
        lambda mark: mark.replace("[", "\\[").replace("]", "\\]"),
        lambda mark: mark.strip("[]"),
        lambda mark: mark.replace("-", "_"),
        lambda mark: mark.replace("-", "\u2011"),
        lambda mark: f"({mark})",
        lambda mark: f"{mark}'s",
    ],
)
def test_what_models_make_of_placeholders(altered: object) -> None:
    vault = Vault()
    mark = redacted(vault, "Okoye", ("Okoye", "pii.staff"))
    assert callable(altered)
    got = vault.restore(f"by {altered(mark)}, today", A)
    assert "Okoye" in got and "STAFF" not in got.upper() and got.endswith(", today")


def test_values_are_escaped_within_json() -> None:
    vault = Vault()
    value = 'O"Neil\n\\x'
    mark = redacted(vault, value, (value, "pii.person"))
    arguments = json.dumps({"name": mark})
    assert json.loads(vault.restore(arguments, A, within_json=True)) == {"name": value}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_is_the_same_text(data: st.DataObject) -> None:
    vault = Vault()
    style: Style = data.draw(st.sampled_from(["placeholder", "surrogate"]))
    first = redacted(vault, NOTE, *IN_NOTE, style=style)
    words = data.draw(st.lists(st.sampled_from([first, "STAFF", "[", "a b", "[CA", "card-", "\\", "** ", "Ask", "x]", " "]), max_size=8))
    answer = "".join(words)
    cuts = sorted(int(share * len(answer)) for share in data.draw(st.lists(st.floats(0, 1), max_size=12)))
    stream = vault.stream(A)
    pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert "".join([*map(stream.feed, pieces), stream.flush()]) == vault.restore(answer, A)


def test_no_more_is_held_back_than_may_become_a_placeholder() -> None:
    vault = Vault()
    redacted(vault, NOTE, *IN_NOTE)
    stream = vault.stream(A)
    assert stream.feed("Hello you, ") == "Hello you, "
    assert stream.feed("see [STA") == "see "
    assert stream.feed("TUS] now") == "[STATUS] now"
    assert stream.feed(" and [CARD-00") == " and "
    assert stream.flush() == "[CARD-00"


@pytest.mark.parametrize("style", ["mask", "hash"])
def test_masks_and_hashes_are_not_put_back(style: Style) -> None:
    vault = Vault()
    sent = redacted(vault, NOTE, *IN_NOTE, style=style)
    assert "Okoye" not in sent and "4111" not in sent
    assert vault.restore(sent, A) == sent and len(vault) == 0
    assert redacted(vault, NOTE, *IN_NOTE, style=style) == sent


@pytest.mark.parametrize(
    ("value", "category", "shape"),
    [
        ("Ada Okoye", "pii.person", r"[A-Z][a-z]+ [A-Z][a-z]+-[A-Z][a-z]+"),
        ("ada@hospital.org", "pii.contact", r"user\d{8}@example\.com"),
        ("+44 20 7946 0018", "pii.contact", r"\+\d\d \d\d \d{4} \d{4}"),
        ("4111 1111 1111 1111", "financial.card", r"\d{4} \d{4} \d{4} \d{4}"),
        ("1971-05-03", "phi.identifier", r"\d{4}-\d\d-\d\d"),
        ("DE89370400440532013000", "financial.iban", r"XX\d{20}"),
        ("MRN 0048213", "phi.identifier", r"[A-Z]{3} \d{7}"),
    ],
)
def test_surrogates_keep_the_kind(value: str, category: str, shape: str) -> None:
    vault = Vault()
    text = f"about {value} today"
    sent = redacted(vault, text, (value, category), style="surrogate")
    made = sent.removeprefix("about ").removesuffix(" today")
    assert re.fullmatch(shape, made) and made != value
    assert vault.restore(sent, A) == text
    if category == "financial.card":
        digits = [int(each) for each in made if each.isdigit()][::-1]
        assert sum(sum(divmod(each * (1 + place % 2), 10)) for place, each in enumerate(digits)) % 10 == 0
    if category == "financial.iban":
        assert int(made[4:] + "3333" + made[2:4]) % 97 == 1


def test_a_surrogate_that_is_typed_comes_back_as_it_was_typed() -> None:
    vault = Vault()
    made = redacted(vault, "Ada Okoye", ("Ada Okoye", "pii.person"), style="surrogate")
    sent = vault.redact(f"who is {made}?", [], A, "surrogate")
    assert made not in sent and vault.restore(sent, A) == f"who is {made}?"


def test_overlapping_findings_leave_nothing_of_either() -> None:
    text = "Ada Okoye-Berg"
    vault = Vault()
    findings: Sequence[Finding] = [Finding(0, 9, "pii.person", "a", 1.0), Finding(4, 14, "pii.staff", "b", 0.6)]
    assert re.fullmatch(r"\[STAFF-[0-9a-f]{12}\]", vault.redact(text, findings, A))


def test_only_the_categories_that_are_asked_for_are_taken_out() -> None:
    vault = Vault()
    sent = vault.redact(NOTE, at(NOTE, *IN_NOTE), A, only={"financial.card"})
    assert "Ada Okoye" in sent and "4111" not in sent


def test_values_are_forgotten_after_their_lifetime() -> None:
    now = [0.0]
    vault = Vault(10, clock=lambda: now[0])
    sent = redacted(vault, NOTE, *IN_NOTE)
    now[0] = 9
    assert vault.restore(sent, A) == NOTE
    now[0] = 18
    assert vault.restore(sent, A) == NOTE  # used at 9
    now[0] = 29
    assert vault.restore(sent, A) == sent
    vault.expire()
    assert len(vault) == 0 and vault.redact(NOTE, [], A) == NOTE


def test_a_full_vault_refuses_and_forgets_nothing() -> None:
    vault = Vault(entries=2)
    sent = redacted(vault, NOTE, *IN_NOTE)
    with pytest.raises(VaultFull):
        redacted(vault, "one more: Eve", ("Eve", "pii.person"))
    assert vault.restore(sent, A) == NOTE
    with pytest.raises(VaultFull):
        redacted(Vault(size=100), NOTE, *IN_NOTE)


def test_a_vault_is_neither_shown_nor_packed() -> None:
    vault = Vault()
    redacted(vault, NOTE, *IN_NOTE)
    assert "Okoye" not in repr(vault)
    with pytest.raises(TypeError):
        pickle.dumps(vault)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(CATEGORIES)), st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_taken_out_comes_back(value: str, category: str, before: str, after: str) -> None:
    vault = Vault()
    text = before + value + after
    sent = vault.redact(text, [Finding(len(before), len(before) + len(value), category, "t", 1.0)], A)
    assert vault.restore(sent, A) == text


def test_another_lifetime_holds_for_what_is_kept_already() -> None:
    now = [0.0]
    vault = Vault(1000, clock=lambda: now[0])
    text = vault.redact("Anna", [Finding(0, 4, "pii.person", "test", 1.0)], "api.openai.com")
    now[0] = 50
    vault.keep(10)
    assert vault.restore(text, "api.openai.com") == text
