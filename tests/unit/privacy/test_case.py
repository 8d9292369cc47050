"""A case without a name: about nobody, unless a day, a town, a hospital or a great age leads to the patient."""

from __future__ import annotations

import pytest

from stockade.privacy import context
from stockade.privacy.finding import Finding


def refined(text: str, *said: tuple[str, str]) -> set[tuple[str, str]]:
    """What becomes of findings of the model's, each a piece of the text and its category."""
    findings = [Finding(text.index(piece), text.index(piece) + len(piece), category, "model", 0.9) for piece, category in said]
    return {(text[f.start : f.end], f.category) for f in context.refine(text, sorted(findings))}


@pytest.mark.parametrize(
    "text",
    [
        "A 58-year-old man presents with angina. What is the next step?",
        "What is the workup for a 58-year-old man presenting with angina?",
        "Which drug for a 70 yo woman who has angina?",
        "Does a 45 y/o with angina in Germany need aspirin?",
    ],
)
def test_a_case_told_by_age_and_sex_alone_is_about_nobody(text: str) -> None:
    assert refined(text, ("angina", "phi.clinical")) == set()


@pytest.mark.parametrize(
    ("text", "lead", "category"),
    [
        ("A 58-year-old man from Spokane presents with angina. What next?", "Spokane", "pii.location"),
        ("Workup for a 58-year-old man with angina seen on January 12?", "January 12", "pii.date"),
        ("What is best for a 70 yo with angina discharged from Mercy Hospital?", "Mercy Hospital", "pii.organisation"),
        ("Is stenting right for a 94-year-old woman with angina?", "94-year-old", "pii.age"),
        ("Which drug for the 61 yo with angina who mailed from a@b.example?", "a@b.example", "pii.contact"),
    ],
)
def test_what_leads_to_the_patient_makes_the_illness_a_patients(text: str, lead: str, category: str) -> None:
    assert refined(text, ("angina", "phi.clinical"), (lead, category)) == {("angina", "phi.clinical"), (lead, category)}


def test_where_nothing_else_is_kept_back_what_leads_to_the_patient_is() -> None:
    text = "Prognosis for a 94-year-old resident of Duluth with metastatic colon cancer?"
    said = (("94-year-old", "pii.age"), ("Duluth", "pii.location"))
    assert refined(text, *said) == {("94-year-old", "phi.identifier"), ("Duluth", "phi.identifier")}
    assert ("Duluth", "pii.location") in refined(text, *said, ("metastatic colon cancer", "phi.clinical"))


@pytest.mark.parametrize(
    ("text", "piece", "category"),
    [
        ("What did the guidelines of 2023 say on treatment of a patient with angina?", "2023", "pii.date"),
        ("How is a patient with angina treated in South Korea?", "South Korea", "pii.location"),
        ("Which vaccine for a 9-month-old infant with a chronic disease?", "9-month-old", "pii.age"),
        ("My father turned 91 in Tucson. Which gift would he like?", "Tucson", "pii.location"),
        ("How far is Spokane from Seattle?", "Spokane", "pii.location"),
    ],
)
def test_a_year_a_country_and_those_who_are_not_ill_keep_their_names(text: str, piece: str, category: str) -> None:
    assert refined(text, (piece, category)) == {(piece, category)}


@pytest.mark.parametrize(
    "text", ["Lisinopril 10 mg daily; angina since spring.", "Past history: angina. Social history: a retired teacher."]
)
def test_outside_of_a_question_the_model_is_believed(text: str) -> None:
    assert refined(text, ("angina", "phi.clinical")) == {("angina", "phi.clinical")}


def test_the_letters_of_a_degree_behind_a_name_are_nothing_and_a_state_is_one() -> None:
    assert refined("Signed: Ann Poe, MD", ("Ann Poe", "pii.staff"), ("MD", "pii.location")) == {("Ann Poe", "pii.staff")}
    assert refined("Ann Poe, RN", ("Ann Poe", "pii.staff"), ("RN", "pii.organisation")) == {("Ann Poe", "pii.staff")}
    assert ("MD", "pii.location") in refined("She lives in Towson, MD", ("Towson", "pii.location"), ("MD", "pii.location"))
