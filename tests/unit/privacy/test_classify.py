"""All layers as one: hidden spellings and the way back to the text, values cut in two, thresholds, what a policy adds, ties, context."""

from __future__ import annotations

import base64
import html
import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.privacy import classify, deadline, settings, views
from stockade.privacy.classify import Classifier, Custom, Dictionary, Settings, unite
from stockade.privacy.documents import Documents
from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials, Patterns

CLASSIFIER = Classifier([Patterns(), Credentials(), Documents()])
CARD = "4111 1111 1111 1111"
MAIL = "jane.doe@clinic.test"


def categories(text: str, given: Settings = Settings()) -> dict[str, str]:  # noqa: B008 — frozen
    """Category → the characters it covers, of the first finding of it."""
    found: dict[str, str] = {}
    for finding in CLASSIFIER.classify([text], given)[0]:
        found.setdefault(finding.category, text[finding.start : finding.end])
    return found


# Views: another spelling is the same value, and the finding covers that spelling.


@pytest.mark.parametrize(
    ("text", "category", "covered"),
    [
        ("pay with 4111\u200b1111\u200b1111\u200b1111 now", "financial.card", "4111\u200b1111\u200b1111\u200b1111"),
        ("pay with 4111\u00ad1111\u00ad1111\u00ad1111 now", "financial.card", "4111\u00ad1111\u00ad1111\u00ad1111"),
        ("pay with ４１１１１１１１１１１１１１１１ now", "financial.card", "４１１１１１１１１１１１１１１１"),
        ("pay with 4111‑1111‑1111‑1111 now", "financial.card", "4111‑1111‑1111‑1111"),
        ("pay with 4111\u00a01111\u00a01111\u00a01111 now", "financial.card", "4111\u00a01111\u00a01111\u00a01111"),
        ("mail jane.doe%40clinic.test now", "pii.contact", "jane.doe%40clinic.test"),
        ("mail jane.doe&#64;clinic.test now", "pii.contact", "jane.doe&#64;clinic.test"),
        ("mail jane.doe&commat;clinic.test now", "pii.contact", "jane.doe&commat;clinic.test"),
        ("mail jane.doe\\u0040clinic.test now", "pii.contact", "jane.doe\\u0040clinic.test"),
        ("mail jane.doe\\x40clinic.test now", "pii.contact", "jane.doe\\x40clinic.test"),
        ("mail jane.d\u043ee@clinic.test now", "pii.contact", "jane.d\u043ee@clinic.test"),  # a Cyrillic o
    ],
)
def test_another_spelling_is_found_where_it_stands(text: str, category: str, covered: str) -> None:
    assert categories(text)[category] == covered


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: text.encode().hex(),
        lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
        lambda text: base64.b64encode(text.encode().hex().encode()).decode(),
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
        lambda text: "".join(f"&#{ord(character)};" for character in text),
        lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
        lambda text: quote(quote(text)),
    ],
    ids=["base64", "base64url", "hex", "base64-twice", "hex-in-base64", "percent", "entities", "unicode-escapes", "percent-twice"],
)  # fmt: skip
def test_packed_text_is_opened_and_the_package_is_covered(pack: object) -> None:
    assert callable(pack)
    packed = pack(f"card {CARD} of {MAIL}")
    text = f"here: {packed} end"
    found = CLASSIFIER.classify([text], Settings())[0]
    for category in ("financial.card", "pii.contact"):
        finding = next(finding for finding in found if finding.category == category)
        assert 6 <= finding.start < finding.end <= 6 + len(packed)


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_stands_around_offsets_come_back(before: str, after: str) -> None:
    text = f"{before} \n {MAIL} \n {after}"
    at = len(before) + 3
    assert any(
        f.category == "pii.contact" and f.start <= at and f.end >= at + len(MAIL) for f in CLASSIFIER.classify([text], Settings())[0]
    )


@given(st.text(max_size=200))
def test_every_view_leads_back_into_the_text(text: str) -> None:
    for view in views.views(text):
        if view.text:
            back = view.back(Finding(0, len(view.text), "pii.contact", "x", 1))
            assert 0 <= back.start < back.end <= len(text)


def test_entities_of_a_whole_document_are_resolved_together() -> None:
    assert "pii.contact" in categories(html.escape(f"<a href='mailto:{MAIL}'>") + "&#106;ane")


# A conversation: a value cut in two is found in both of its pieces.


def test_a_value_cut_by_two_messages_is_found_in_both() -> None:
    texts = ["my card is 4111 1111 ", "1111 1111, exp 12/27"]
    alone = CLASSIFIER.classify(texts, Settings())
    assert not any(f.category == "financial.card" for found in alone for f in found)
    together = CLASSIFIER.classify(texts, Settings(), conversation=True)
    assert [[texts[n][f.start : f.end].strip() for f in found if f.category == "financial.card"] for n, found in enumerate(together)] == [
        ["4111 1111"],
        ["1111 1111"],
    ]


def test_a_value_cut_in_many_pieces_is_found_in_all() -> None:
    texts = list("jane.doe@clinic.test")
    found = CLASSIFIER.classify(["mail ", *texts, " bye"], Settings(), conversation=True)
    assert all(any(f.category == "pii.contact" for f in of_text) for of_text in found[1:-1])


def test_a_value_cut_by_an_answer_is_found_in_the_lane_of_its_role() -> None:
    texts = ["my card is 4111 1111 ", "I cannot see the rest, go on.", "1111 1111"]
    assert not any(f.category == "financial.card" for found in CLASSIFIER.classify(texts, Settings(), conversation=True) for f in found)
    found = CLASSIFIER.classify(texts, Settings(), conversation=True, lanes=[[0, 2]])
    assert [any(f.category == "financial.card" for f in of_text) for of_text in found] == [True, False, True]


def test_words_that_only_touch_at_a_border_are_no_value() -> None:
    found = CLASSIFIER.classify(["the sum is 41", "11 items were sold"], Settings(), conversation=True)
    assert found == [[], []]


# Thresholds, dictionaries, patterns of the policy.


def test_the_most_exact_threshold_holds() -> None:
    given = Settings(thresholds=(("*", 0.1), ("pii.*", 0.2), ("pii.contact", 0.3)))
    assert (given.threshold("pii.contact"), given.threshold("pii.age"), given.threshold("financial.card")) == (0.3, 0.2, 0.1)
    assert Settings().threshold("pii.contact") == 0.5


def test_a_threshold_drops_what_is_less_sure() -> None:
    text = "a 58-year-old man"
    assert "pii.age" in categories(text)
    assert "pii.age" not in categories(text, Settings(thresholds=(("pii.age", 0.99),)))
    assert "pii.age" in categories(text, Settings(thresholds=(("pii.*", 0.99), ("pii.age", 0.5))))


@pytest.mark.parametrize(
    ("term", "text", "covered"),
    [
        ("Project Blue Heron", "about project  blue\nheron today", "project  blue\nheron"),
        ("Blue-Heron", "the BLUE-HERON plan", "BLUE-HERON"),
        ("C++", "we use c++ here", "c++"),
        ("Ürün", "das ÜRÜN ist", "ÜRÜN"),
    ],
)
def test_a_term_is_found_whatever_its_case_and_spacing(term: str, text: str, covered: str) -> None:
    given = Settings(dictionaries=(Dictionary("products", "ip.document", (term,)),))
    assert categories(text, given)["ip.document"] == covered


@pytest.mark.parametrize("text", ["blueheron", "blue herons", "blue, the colour, and a heron", "unblue heron"])
def test_a_term_is_not_found_in_other_words(text: str) -> None:
    assert categories(text, Settings(dictionaries=(Dictionary("products", "ip.document", ("blue heron",)),))) == {}


def test_a_term_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dictionary 'x': the term '\?!'"):
        classify.rules(Settings(dictionaries=(Dictionary("x", "ip.document", ("?!",)),)))


def test_a_pattern_of_the_policy_takes_its_first_group() -> None:
    given = Settings(custom=(Custom("case", r"case (ZX-[0-9]{4})", "pii.government"), Custom("plain", r"QQ[0-9]{3}", "ip.document")))
    assert categories("see case ZX-1234 and QQ777", given) == {"pii.government": "ZX-1234", "ip.document": "QQ777"}


def test_a_pattern_that_is_none_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="custom pattern 'broken'"):
        classify.rules(Settings(custom=(Custom("broken", "(", "ip.document"),)))
    with pytest.raises(ValueError, match="custom pattern 'back'"):
        classify.rules(Settings(custom=(Custom("back", r"(a)\1", "ip.document"),)))


def test_settings_are_one_class_and_go_to_another_process() -> None:
    assert classify.Settings is settings.Settings
    given = Settings((("*", 0.4),), (Dictionary("d", "ip.document", ("x",)),), (Custom("c", "x", "ip.document"),))
    copy = pickle.loads(pickle.dumps(given))  # noqa: S301 — its own bytes
    assert copy == given
    assert hash(copy) == hash(given)


# Ties.


def test_a_validated_value_takes_the_place_of_guesses_inside_it() -> None:
    assert set(categories(f"pay {CARD}")) == {"financial.card"}
    card, phone = Finding(0, 16, "financial.card", "pattern:card", 1.0), Finding(2, 12, "pii.contact", "model", 0.7)
    assert unite([phone, card]) == [card]


def test_what_is_packed_together_lies_beside_each_other() -> None:
    """All of it has the span of the package, and none is inside another."""
    said = f"SSN 536-22-1234 of jane, who paid with {CARD}"
    package = base64.b64encode(said.encode()).decode()
    assert {"pii.government", "financial.card"} <= set(categories(said)) & set(categories(f"look: {package} ."))
    number, name = Finding(0, 40, "pii.government", "pattern:us-ssn", 1.0), Finding(0, 40, "phi.identifier", "model", 0.7)
    assert unite([number, name]) == [number]
    assert unite([number, name], frozenset({(0, 40)})) == sorted([number, name])


def test_what_reaches_beyond_a_validated_value_stays() -> None:
    card, name = Finding(4, 20, "financial.card", "pattern:card", 1.0), Finding(0, 22, "pii.person", "model", 0.7)
    assert unite([card, name]) == [name, card]


def test_a_credential_and_a_term_of_the_policy_are_never_taken_back() -> None:
    card = Finding(0, 16, "financial.card", "pattern:card", 1.0)
    secret, term = Finding(2, 10, "credential.key", "random:token", 0.55), Finding(2, 10, "ip.document", "dictionary:x", 1.0)
    assert unite([card, secret, term]) == sorted([card, secret, term])


def test_overlapping_findings_of_a_category_are_one_named_by_the_surest() -> None:
    united = unite([Finding(0, 10, "pii.person", "model", 0.6), Finding(5, 15, "pii.person", "dictionary:x", 0.9)])
    assert united == [Finding(0, 15, "pii.person", "dictionary:x", 0.9)]


# Context: whose name, and whether anybody is described.


class Names:
    """The names that a test gives it, as a model would find them."""

    name, version = "model", "1"

    def __init__(self, *names: str) -> None:
        self._names = names

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [
            sorted(Finding(at, at + len(name), "pii.person", "model", 0.9) for name in self._names if (at := text.find(name)) >= 0)
            for text in texts
        ]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Patient John Smith was admitted with chest pain.", "phi.identifier"),
        ("Pt: John Smith, MRN 00482913, hx of asthma", "phi.identifier"),
        ("Dr. John Smith will see you at nine.", "pii.staff"),
        ("Signed by John Smith, MD", "pii.staff"),
        ("On call tonight: John Smith, pager 4411", "pii.staff"),
        ("John Smith plays chess in the park.", "pii.person"),
    ],
)
def test_a_name_is_a_patients_a_staff_members_or_anybodys(text: str, category: str) -> None:
    found = Classifier([Patterns(), Names("John Smith")]).classify([text], Settings())[0]
    assert [f.category for f in found if text[f.start : f.end] == "John Smith"] == [category]


@pytest.mark.parametrize(
    ("text", "clinical"),
    [
        ("The patient was started on metformin 500 mg BID.", True),
        ("She was diagnosed with pneumonia last week.", True),
        ("58 y/o male presents with BP 182/101 mmHg", True),
        ("What is the usual dose of metformin 500 mg tablets?", False),
        ("Explain how hypertension is treated in adults.", False),
        ("assessment code E11.65 recorded", True),
        ("ICD-10: I21.4", True),
    ],
)
def test_a_clinical_finding_counts_where_somebody_is_described(text: str, clinical: bool) -> None:
    assert ("phi.clinical" in categories(text)) is clinical


def test_a_birth_date_is_the_patients_where_one_is_spoken_of() -> None:
    assert categories("Patient admitted today. DOB: 03/15/1962")["phi.identifier"] == "03/15/1962"
    assert categories("Happy birthday! born 03/15/1962")["pii.date"] == "03/15/1962"


def test_what_one_message_says_of_a_patient_holds_for_the_next() -> None:
    texts = ["The patient has been admitted.", "metformin 500 mg BID"]
    assert not any(f.category == "phi.clinical" for f in CLASSIFIER.classify([texts[1]], Settings())[0])
    assert any(f.category == "phi.clinical" for f in CLASSIFIER.classify(texts, Settings(), conversation=True)[1])


# Side by side: who knows forms reads while the model reads.


class Meeting:
    """A detector that goes on when another one is reading too."""

    version = "1"

    def __init__(self, name: str, barrier: threading.Barrier, reads_views: bool) -> None:
        self.name, self.reads_views, self._barrier = name, reads_views, barrier

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        self._barrier.wait(30)
        return [[Finding(0, len(text), "pii.person", self.name, 0.9)] for text in texts]


def test_what_knows_forms_reads_beside_what_does_not_and_finds_the_same() -> None:
    texts = [f"Patient John Smith, MRN 00482913, card {CARD}, {MAIL}", "", "On call: Dr. John Smith", f"key {quote(MAIL)}"]
    detectors = [Patterns(), Names("John Smith"), Credentials(), Documents()]
    with ThreadPoolExecutor(1) as pool:
        both = [Classifier(detectors, beside).classify(texts, conversation=True, formed=[2]) for beside in (None, pool)]
        assert both[0] == both[1]
        assert both[0][0]
        barrier = threading.Barrier(2)
        met = Classifier([Meeting("form", barrier, True), Meeting("model", barrier, False)], pool).classify(["x"])
    assert [finding.detector for finding in met[0]] in (["form"], ["model"])


@pytest.mark.parametrize("slow", [True, False], ids=["forms", "model"])
def test_the_deadline_holds_for_both_and_neither_goes_on_when_it_is_over(slow: bool) -> None:
    class Endless:
        version = "1"

        def __init__(self, name: str, reads_views: bool) -> None:
            self.name, self.reads_views, self.reads = name, reads_views, False

        def find(self, texts: Sequence[str]) -> list[list[Finding]]:
            self.reads = True
            try:
                while self.reads_views is slow:
                    deadline.keep()
            finally:
                self.reads = False
            return [[] for _ in texts]

    both = [Endless("form", True), Endless("model", False)]
    with ThreadPoolExecutor(1) as pool:
        with deadline.until(time.monotonic() + 0.2), pytest.raises(deadline.Late):
            Classifier(both, pool).classify(["x"])
        assert not any(each.reads for each in both)
