"""Dates in their common spellings, and ages. A date of birth is told from others by the words before it: category by the document (see
context.py).
"""

from __future__ import annotations

from stockade.privacy.patterns.subject import Pattern

_MONTH = (
    r"(?:jan(?:uary|vier|uar)?|feb(?:ruary|ruar)?|f[eé]vrier|mar(?:ch|s|zo)?|m[aä]rz|apr(?:il|ile)?|avril|abril|may|mai|mayo|june?|juin|"
    r"juni[o]?|july?|juillet|juli[o]?|aug(?:ust)?|ao[uû]t|agosto|sept?(?:ember|embre)?|"
    r"oct(?:ober|obre)?|okt(?:ober)?|nov(?:ember|embre)?|dec(?:ember)?|d[eé]cembre|dez(?:ember)?|diciembre|enero|febrero|septiembre|"
    r"noviembre|octubre|gennaio|febbraio|maggio|giugno|luglio|settembre|ottobre|dicembre)\.?"
)
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_YEAR = r"(?:1[89]|20)[0-9]{2}"
_DATE = (
    rf"(?:{_YEAR}[-/.](?:0?[1-9]|1[0-2])[-/.]{_DAY}|"
    rf"{_DAY}[-/.](?:0?[1-9]|1[0-2])[-/.](?:{_YEAR}|[0-9]{{2}})|"
    rf"(?:0?[1-9]|1[0-2])[-/.]{_DAY}[-/.](?:{_YEAR}|[0-9]{{2}})|"
    rf"{_DAY}(?:st|nd|rd|th|\.|er)?(?:[ \-]of|[ \-]de)?[ \-/]{_MONTH}(?:[ \-/]de)?,?[ \-/]?(?:{_YEAR}|'?[0-9]{{2}})|"
    rf"{_MONTH}[ \-/]{_DAY}(?:st|nd|rd|th)?,?[ \-/]{{1,2}}(?:{_YEAR}|'[0-9]{{2}})|"
    rf"{_YEAR}[ \-/]{_MONTH}[ \-/]{_DAY})"
)
_BORN = (
    r"(?:d\.?o\.?b\.?|date[ _-]?of[ _-]?birth|birth[ _-]?(?:date|day)?|born(?: on)?|b-day|geb(?:oren|urtsdatum|urtstag|\.)?(?: am)?|"
    r"n[eé]e? le|date de naissance|nacid[oa] el|fecha de nacimiento|nat[oa] il|data di nascita|geboortedatum)"
)

PATTERNS = (
    Pattern(
        "birth-date",
        "pii.date",
        rf"(?i)\b{_BORN}[\"']?(?: (?:is|was|in|on))?[^a-z0-9\n]{{1,6}}({_DATE}|(?:0?[1-9]|1[0-2])/{_DAY}/[0-9]{{2,4}}|{_YEAR}(?:0[1-9]|"
        rf"1[0-2])(?:0[1-9]|[12][0-9]|3[01])|{_MONTH} {_YEAR})\b",
        score=0.98,
        hints=("b", "n", "f", "d"),
        says="a date of birth by its label: phi.identifier where a patient is spoken of",
    ),
    Pattern("date", "pii.date", rf"(?i)\b({_DATE})\b", score=0.85, beside="w-./", says="a date with day, month and year"),
    Pattern(
        "date-bare",
        "pii.date",
        rf"(?i)\b({_MONTH} {_DAY}(?:st|nd|rd|th)?|{_DAY}(?:st|nd|rd|th)?(?: of)? {_MONTH})\b",
        score=0.6,
        check=lambda text: not text.lower().startswith(("may ", "mar ")) or text[0].isupper(),
        says="a day and a month without a year",
    ),
    Pattern("month", "pii.date", rf"(?i)\b({_MONTH},? {_YEAR})\b", score=0.6, says="a month and a year"),
    Pattern(
        "age",
        "pii.age",
        r"(?i)\b([0-9]{1,3}[ -]?(?:years?|yrs?|months?|weeks?|days?)[ -]?olds?|[0-9]{1,3} ?(?:y/?o|yo[mf]?|y\.o\.)|[0-9]{1,3} (?:ans|"
        r"jahre alt|años|anni)|(?:age[ds]?|aged?:) ?:? ?(?:of )?[0-9]{1,3})\b",
        score=0.85,
        says="an age",
    ),
    Pattern(
        "age-typed",
        "pii.age",
        r"(?i)\b(?:age|alter|edad|[âa]ge|patient_age)[\"']?\s?[:=]\s?[\"']?([0-9]{1,3})\b",
        score=0.85,
        hints=("age", "alter", "edad"),
        says="an age by its label",
    ),
    Pattern(
        "age-sex",
        "pii.age",
        r"\b([0-9]{1,3} ?[MF])\b",
        score=0.6,
        near=r"(?i)\b(?:pt|patient|presents?|c/o|admitted|hx|h/o)\b",
        required=True,
        lifted=0.75,
        says="an age and a sex as clinicians write them: 58F",
    ),
)
