"""A case without a name: whether what is said of it leads to somebody.

"Workup for a 58-year-old man with chest pain?" is asked about nobody. With a day, a town, a hospital, a number, initials or an age of
ninety and more it is asked about one who can be found, and then what is said of the illness is a patient's. Where such a case holds
nothing else that is kept back, what leads to the patient is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from stockade.privacy.finding import Finding

_AGED = re.compile(
    r"(?i)\b\d{1,3}[ -]?(?:y/?o|yo|year[ -]old|yr[ -]old)[ -]?(?:\w+ ){0,3}(?:presents?|presented|presenting|admitted|was|is|who|"
    r"with a history|c/o|complain\w+|underwent|seen|here|came|arrived|has|had|p/w)|\b\d{1,3}(?:[ -]?y/?o)? ?[mf]\b(?:,| with| p/w| c/o|"
    r" w/| admitted| presents)"
)
_INDEFINITE = re.compile(r"(?i)\b(?:an?|any|another)[ -](?:\w+[ -]){0,2}$")
_ONE = re.compile(
    r"(?i)\b\d{1,3}[ -]?(?:y/?o|yo|years?[ -]old|yrs?[ -]old)\b|\b\d{2} ?[mf]\b|\b(?:patient|pt|resident|inpatient|newborn|infant|baby)\b|"
    r"\b(?:he|she|his|her|him|admitted|hospitali[sz]ed|readmitted|(?:admission|discharged?|admit) (?:date|on|from)|adm|post-?op|pod)\b|"
    r"\bmy (?:\w+[ -])?(?:father|mother|dad|mom|mum|wife|husband|partner|son|daughter|brother|sister|grand\w+)\b"
)
_ILL = re.compile(
    r"(?i)\b(?:patients?|pts?|admi(?:tted|ssion)|discharged?|diagnos\w+|symptom\w*|treat\w*|therapy|dos(?:e|ing)|mg|mcg|diseases?|cancer|"
    r"tumou?r|infect\w+|pain|surg\w+|prognosis|work-?up|fractures?|syndrome|acute|chronic|metasta\w+|bleed\w*|ct|mri|x-?ray|labs?|biopsy|"
    r"pregnan\w+|stroke|diabet\w+|seizures?|icu|hospice|\w{3,}(?:itis|osis|[aeo]mia|omas?|opathy|ectomy|plasty|uria|pnea|algia|statin|pril|"
    r"sartan|mycin|cillin|olol|azole|mab))\b"
)
_NAMING = ("phi.identifier", "pii.person", "pii.contact", "pii.government", "financial.")
_KEPT = ("phi.", "pii.person", "pii.staff", "pii.contact", "pii.government", "financial.", "credential.")
_YEAR = re.compile(r"(?i)(?:the )?(?:1[89]|20)\d\ds?|(?:the )?\d0s|today|tomorrow|tonight|now|years?|months?|weeks?|days?|hours?")
_HOUSE = re.compile(r"(?i)hospital|clinic|klini|infirmary|medical|health|hospice|nursing|h[oô]pital|\b(?:st|saint|mount|mt|mercy|sacred)\b")
_WIDE_WORDS = (
    "africa america antarctica asia australia europe us usa u.s. uk u.k. eu united states kingdom great britain england scotland wales "
    "ireland canada mexico brazil argentina chile peru colombia cuba haiti jamaica germany france spain italy portugal netherlands "
    "belgium switzerland austria poland czech republic hungary romania bulgaria greece turkey russia ukraine sweden norway denmark "
    "finland iceland china japan korea taiwan india pakistan bangladesh nepal sri lanka thailand vietnam philippines indonesia malaysia "
    "singapore iran iraq israel syria lebanon jordan egypt libya morocco algeria tunisia sudan ethiopia kenya uganda tanzania rwanda "
    "nigeria ghana senegal cameroon congo angola zambia zimbabwe south north east west new zealand saudi arabia latin middle central "
    "sub-saharan southeast the of and"
)
_WIDE = frozenset(_WIDE_WORDS.split())
_NUMBER = re.compile(r"\d{2,3}")


def indefinite(text: str) -> bool | None:
    """Whether somebody is told of by age and sex alone: True for `a 58-year-old man presents …` in a question, False for one that is told
    of as a note does, None where nobody is.
    """
    found = _AGED.search(text)
    if found is None:
        return None
    return "?" in text and _INDEFINITE.search(text, 0, found.start()) is not None


def leads(text: str, finding: Finding) -> bool:
    """Whether a finding narrows a case down to a person. A country, a year, a society or a common age do not."""
    said = text[finding.start : finding.end]
    match finding.category:
        case "pii.location":
            return not set(re.split(r"[^\w.\-]+", said.lower())) <= _WIDE
        case "pii.date":
            return _YEAR.fullmatch(said) is None
        case "pii.organisation":
            return _HOUSE.search(said) is not None
        case "pii.age":
            return any(90 <= int(number) <= 120 for number in _NUMBER.findall(said)) and re.search(r"(?i)month|week|day|hour", said) is None
    return finding.category.startswith(_NAMING)


def led_to(text: str, findings: Sequence[Finding]) -> bool:
    """Whether one who is ill is told of and can be found."""
    if not any(leads(text, finding) for finding in findings) or _ONE.search(text) is None:
        return False
    return any(finding.category == "phi.clinical" for finding in findings) or _ILL.search(text) is not None


def kept_back(text: str, findings: Sequence[Finding]) -> list[Finding]:
    """The findings of one who is ill and can be found. Where none would be kept back, those that lead to the patient are named so."""
    if any(finding.category.startswith(_KEPT) for finding in findings):
        return list(findings)
    return [replace(finding, category="phi.identifier") if leads(text, finding) else finding for finding in findings]
