"""What the words around a finding make of it: a name is a patient's, a member of the staff's or anybody's; a clinical term counts where
somebody is described, and in a general question it does not.

Used on the findings of patterns and of the model alike. It names and drops; it never adds a span. Python's `re` is safe here: every
expression is a list of words, tried once at each place.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stockade.privacy import case, deadline
from stockade.privacy.finding import Finding

_STAFF_BEFORE = re.compile(
    r"(?i)(?:\b(?:dr|drs|doctor|prof(?:essor)?|nurse|rn|np|physician|surgeon|attending|resident|consultant|pharmacist|therapist|"
    r"radiologist|cardiologist|oncologist|neurologist|psychiatrist|pediatrician|anesthesiologist|"
    r"hospitalist|intern|midwife|paramedic|technician|provider|pcp|clinician|hausarzt|arzt|ärztin|docteur|médecin|dra?|specialist|"
    r"dentist|social worker|case manager|coordinator|charge nurse|chief of|director|head of)\b\.?"
    r"(?: (?:is|are|by|on call|on-call|on duty|name))?[\s:,\-]{0,3}|\b(?:seen by|signed by|dictated by|electronically signed by|"
    r"referred (?:to|by)|treated by|ordered by|reviewed by|performed by|reported by|under the care of|on[ -]call:?|on duty:?|covering:?|"
    r"covered by|shift:?)\s{1,2}(?:dr\.? )?)$"
)
_STAFF_AFTER = re.compile(
    r"^[,\s]{0,2}\(?(?:m\.?d|d\.?o|r\.?n|n\.?p|p\.?a(?:-c)?|ph\.?d|pharm\.?d|facs|facc|frcp|mbbs|mbchb|dds|dpm|cnm|crna|lpn|lvn|lcsw|rrt|"
    r"pt, dpt|dpt|bsn|msn|aprn|MD|DO|RN|NP|PA)\b\.?"
    r"|^(?i:,? (?:is|was|will be) (?:the )?(?:on call|on-call|on duty|attending|covering|scheduled|rounding|off (?:on|today|duty))|"
    r",? (?:covers|works|rounds|has clinic|operates|takes over|has the (?:night|day|late) shift|on call\b|\((?:on call|attending|rn|md|"
    r"night|day|cardiology|surgery|radiology)))"
)
_STAFF_LINE = re.compile(
    r"(?i)\b(?:on[ -]call|shifts?|schedule[ds]?|roster|rota|rotation|rounds|rounding|covering|coverage|on duty|staffing|clinic hours|"
    r"attending physician|operating list|handover to)\b"
)

_PATIENT = re.compile(
    r"(?i)\b(?:patients?|pts?|mrn|d\.?o\.?b|date of birth|admitted|admission|discharged?|diagnos(?:ed|is|es)|chief complaint|presents?|"
    r"presented|presenting|complains?|hx|h/o|s/p|c/o|p/w|medical record|inpatient|outpatient|prescribed|prescription|"
    r"vitals|vital signs|lab(?:s| results?)|biopsy|chemotherapy|surgery|symptoms?|allerg(?:y|ies|ic)|medications?|treatment|treated|"
    r"therapy|tested positive|hospitali[sz]ed|icu|clinic|hospital|follow[ -]?up|y/?o\b|year[ -]old|soap note|"
    r"icd(?:-10)?|member id|health plan|insurance id|next of kin|pregnan(?:t|cy)|disease|cancer|diabet(?:es|ic)|hypertension|asthma|hiv|"
    r"depress(?:ion|ed)|blood pressure|dose|mg\b|patientin?|paciente|krank\w*|insulin|infection|pain)\b"
)
_STRONG_PATIENT = re.compile(
    r"(?i)\b(?:mrn|patients?|pts?\b|medical record|chief complaint|hx|h/o|s/p|admitted|discharge summary|soap|inpatient|y/?o\b|diagnosed|"
    r"icd-?10|health plan|subscriber)\b"
)
_BIRTH = re.compile(
    r"(?i)(?:d\.?o\.?b\.?|birth(?:day|date)?|born(?: on)?|geb(?:oren|urtsdatum|\.)?|n[ée]e? le|nacid[oa])[\"']?(?: (?:is|was|in|on|am|el|"
    r"date))?[^a-z0-9]{0,6}$"
)

# Somebody in particular is described.
_DESCRIBED = re.compile(
    r"(?i)\b(?:the|this|our|that|above|said|same|attached) (?:patient|pt|client|resident|child|infant|newborn|man|woman|gentleman|lady|"
    r"boy|girl|mother|individual)\b|\b(?:pt|patient)(?:'s)? (?:is|was|has|had|presents?|presented|reports?|denies|states|complains?|"
    r"admits|underwent|name|id\b|notes?|record)|"
    r"^\s*(?:pt|patient|name|hx|cc|hpi|pmh|s|o|a|p|subjective|objective|assessment|plan|impression|chief complaint|diagnos[ie]s|dx|"
    r"findings?|vitals?|labs?|medications?|allergies)\s?[:\-]|"
    r"\bmy (?:\w+[ -])?(?:patient|father|mother|dad|mom|mum|wife|husband|spouse|partner|son|daughter|brother|sister|grand\w+|uncle|aunt|"
    r"cousin|friend|child|kid|baby|boss|colleague|coworker|neighbou?r|boyfriend|girlfriend|client)\b|"
    r"\b(?:i|he|she|they) (?:was|were|am|have been|has been|had been|been|got) (?:\w+ )?(?:diagnosed|treated|admitted|hospitali[sz]ed|"
    r"prescribed|tested)|\b(?:his|her) (?:diagnosis|condition|labs?|results?|blood|biopsy|medication|symptoms|treatment|chart|hba1c|a1c)|"
    r"\b(?:he|she) (?:has|had|is|was|takes|took|denies|reports|complains|underwent|suffers|presented|smokes)\b"
)
_QUESTION = re.compile(
    r"(?i)^\W*(?:what|which|how|why|when|where|who|is|are|can|could|does|do|should|would|will|explain|describe|define|compare|list|"
    r"summari[sz]e|tell me|give (?:me )?(?:an? )?(?:overview|list|summary)|outline|discuss|guidelines?|recommend|best|treatment (?:of|"
    r"for|options)|difference|side effects?|causes?|signs|symptoms)\b|\?\s*$"
)
_INDEFINITE = re.compile(
    r"(?i)\b(?:an?|any|some|most|in|for|all|typical|adult|elderly|older|pregnant|healthy|diabetic) (?:\w+[ -]){0,4}(?:patients?|person|"
    r"people|individuals?|adults?|man|woman|women|men|child(?:ren)?|infants?|someone)\b"
)
_GENERAL_VALUE = re.compile(
    r"(?i)(?:target|goal|below|above|under|over|less than|more than|greater than|at least|threshold|cut[- ]?off|normal(?: range)?|range|"
    r"between|limit|reference|[<>≤≥]=?|defined as|such as|e\.g\.|typical\w*|usual\w*|recommended|maximum|mean of|or (?:higher|lower|"
    r"above|below))[^.?!\n]{0,30}$"
)

_DEGREE = re.compile(r"(?i)(?:md|do|rn|np|pa(?:-c)?|ph\.?d|pharmd|bsn|msn|dnp|dds|facs|facc|frcp|mbbs|lpn|lcsw|rrt|aprn|crna)\.?")
_NO_DEGREE = ("pii.organisation", "pii.location", "phi.clinical", "pii.demographic")

_CODES = ("icd", "icd-typed", "loinc", "cpt")
_VALUES = ("lab-value", "lab-bare", "blood-pressure")


_SHORTEST_SECRET = 4  # characters, of what the model alone takes for one


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of the whole conversation: whether somebody with an illness is described in any of its texts, and whether it is
    clinical.
    """

    described: bool = False
    clinical: bool = False


def situation(texts: Sequence[str], findings: Sequence[Sequence[Finding]]) -> Situation:
    """Of all the texts together. findings: of each text, in their order."""
    described = clinical = False
    for text, found in zip(texts, findings, strict=True):
        described = described or any(f.category == "phi.identifier" for f in found) or _describes(text)
        clinical = clinical or any(f.category.startswith("phi.") for f in found) or _STRONG_PATIENT.search(text) is not None
    return Situation(described, clinical)


def _describes(text: str) -> bool:
    return _DESCRIBED.search(text) is not None or case.indefinite(text) is False


def general(text: str) -> bool:
    """A question or a task about medicine in which nobody is described."""
    return not _describes(text) and (_QUESTION.search(text.strip()) is not None or _INDEFINITE.search(text) is not None)


def refine(text: str, findings: Sequence[Finding], around: Situation = Situation()) -> list[Finding]:
    """The findings of one text, renamed and thinned by what is said around them. Order is kept."""
    if not findings:
        return []
    cues = [match.start() for match in _PATIENT.finditer(text)]
    record = any(f.category == "phi.identifier" for f in findings)
    person = any(f.category in ("pii.person", "phi.identifier") for f in findings)
    strong = around.clinical or _STRONG_PATIENT.search(text) is not None
    found = case.led_to(text, findings)
    described = around.described or record or found or _describes(text)
    plain = general(text)
    named = person and not plain
    refined: list[Finding] = []
    for finding in findings:
        deadline.keep()
        before, after = text[max(0, finding.start - 60) : finding.start], text[finding.end : finding.end + 60]
        if finding.category in ("pii.person", "phi.identifier", "pii.staff") and _is_name(text, finding):
            refined.append(replace(finding, category=_person(text, finding, before, after, cues, strong)))
        elif (
            finding.category == "pii.date"
            and (finding.detector == "pattern:birth-date" or _BIRTH.search(before))
            and (strong or record or _near(cues, finding, 200, besides_birth=text))
        ):
            refined.append(replace(finding, category="phi.identifier"))
        elif (
            (finding.category in _NO_DEGREE and _degree(text, finding, findings))
            or (finding.category == "phi.clinical" and not _counts(finding, text, described or named, plain))
            or _no_secret(finding)
        ):
            continue
        else:
            refined.append(finding)
    return case.kept_back(text, refined) if found else refined


def _is_name(text: str, finding: Finding) -> bool:
    return finding.category != "phi.identifier" or not any(character.isdigit() for character in text[finding.start : finding.end])


def _person(text: str, finding: Finding, before: str, after: str, cues: Sequence[int], strong: bool) -> str:
    if _STAFF_BEFORE.search(before) or _STAFF_AFTER.search(after):
        return "pii.staff"
    first, last = text.rfind("\n", 0, finding.start) + 1, text.find("\n", finding.end)
    sentence = text[max(first, finding.start - 160) : min(last if last >= 0 else len(text), finding.end + 160)]
    patient = _near(cues, finding, 120) and (strong or finding.category == "phi.identifier" or _near(cues, finding, 60))
    if _STAFF_LINE.search(sentence) and not _STRONG_PATIENT.search(sentence):
        return "pii.staff"
    if finding.category == "pii.staff":
        return "pii.staff"
    return "phi.identifier" if patient or finding.category == "phi.identifier" else "pii.person"


def _degree(text: str, finding: Finding, findings: Sequence[Finding]) -> bool:
    """Letters of a degree right behind a name: a physician's MD is no Maryland."""
    return _DEGREE.fullmatch(text, finding.start, finding.end) is not None and any(
        other.category in ("pii.staff", "pii.person", "phi.identifier") and text[other.end : finding.start].strip() in (",", "(", "")
        for other in findings
        if finding.start - 3 <= other.end <= finding.start
    )


def _near(cues: Sequence[int], finding: Finding, within: int, besides_birth: str = "") -> bool:
    place = bisect_left(cues, finding.start - within)
    while place < len(cues) and cues[place] <= finding.end + within:
        if not besides_birth or not re.match(r"(?i)d\.?o\.?b|date of birth", besides_birth[cues[place] : cues[place] + 14]):
            return True
        place += 1
    return False


def _no_secret(finding: Finding) -> bool:
    """The model takes a lone digit of a form for a password; nobody's is that short, and to take it out breaks the form."""
    return finding.detector == "model" and finding.category.startswith("credential.") and finding.end - finding.start < _SHORTEST_SECRET


def _counts(finding: Finding, text: str, described: bool, plain: bool) -> bool:
    rule = finding.detector.partition(":")[2]
    if described or rule in _CODES:
        return True
    if not rule:  # the model's, which tells a patient's words from general ones by itself: only a plain question is asked again
        return not plain
    if rule in _VALUES:
        before = text[max(0, finding.start - 60) : finding.end]
        return not _GENERAL_VALUE.search(before[: len(before) - (finding.end - finding.start)]) and not _QUESTION.search(text.strip())
    return False
