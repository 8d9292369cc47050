"""Record numbers of patients; codes, lab values and findings. What needs a described patient to count is marked so, and decided in
context.py.
"""

from __future__ import annotations

import re

from stockade.privacy.patterns.subject import Pattern

_I = "phi.identifier"
_LAB = (
    r"hb ?a1c|a1c|glucose|fbs|fasting sugar|cholesterol|ldl(?:-c)?|hdl(?:-c)?|triglycerides?|creatinine|e?gfr|bun|urea|sodium|potassium|"
    r"chloride|bicarb(?:onate)?|calcium|magnesium|phosph(?:ate|orus)|albumin|bilirubin|"
    r"alt|ast|alp|ggt|ldh|tsh|free t[34]|ft[34]|hemoglobin|haemoglobin|hgb|hematocrit|hct|platelets?|plt|wbc|rbc|mcv|mch|neutrophils?|"
    r"lymphocytes?|inr|pt/inr|ptt|aptt|d-?dimer|troponin(?: [it])?|bnp|nt-?probnp|crp|esr|"
    r"ferritin|iron|tibc|b12|folate|vitamin d|25-oh|psa|cea|ca ?19-9|ca ?125|afp|hcg|uric acid|lactate|procalcitonin|ammonia|lipase|"
    r"amylase|ck(?:-mb)?|cd4(?: count)?|viral load|anion gap|pao2|paco2|ph|spo2|"
    r"o2 sat(?:uration)?|temp(?:erature)?|heart rate|hr|pulse|resp(?:iratory)? rate|rr|bmi|weight|wt|height|ht|ejection fraction|lvef|ef|"
    r"gcs|inr|blood sugar|fev1|urine protein|acr|microalbumin"
)
_UNIT = (
    r"mg/dl|mmol/l|mmol/mol|[uµμ]mol/l|g/dl|g/l|mg/l|ng/ml|pg/ml|[uµμ]g/(?:dl|l|ml)|mcg/(?:dl|l)|m?[iu]u/(?:m?l)|u/l|iu/l|m?eq/l|mmhg|"
    r"mm hg|bpm|ml/min(?:/1\.73 ?m2?)?|cells/[uµμ]l|/[uµμ]l|x ?10\^?[39](?:/[uµμ]?l)?|k/[uµμ]l|"
    r"copies/ml|mm/hr?|fl|kg/m2|kg/m²|breaths/min|°?[cf]\b|kg|lbs?|cm|%"
)


def _icd(text: str) -> bool:
    """Letters and two characters without a dot are too much like a gate, a room, a paper size: those need a label (icd-typed)."""
    return "." in text


_NO_MRN = re.compile(r"(?i)^(?:19|20)[0-9]{2}$")


def _record(text: str) -> bool:
    return not _NO_MRN.match(text)


_NO_DRUG_WORDS = (
    "take takes took taking about least than dose doses dosage daily total around under above below gives given contains "
    "with from that this every maximum minimum over between added using"
)
_NO_DRUG = frozenset(_NO_DRUG_WORDS.split())

PATTERNS = (
    Pattern(
        "mrn",
        _I,
        r"(?i)\b(?:mrns?|med(?:ical)?[ _-]?rec(?:ord)?s?|patient[ _-]?(?:id(?:entifier)?|number|num|no|#)|pat[ _-]?id|pid|"
        r"hospital[ _-]?(?:id|number|no)|chart|health[ _-]?record|ehr|emr|unit record|uhid|case[ _-]?(?:id|number|no)|encounter|visit|"
        r"admission|accession|specimen|study[ _-]?id|account)"
        r"(?:[ _-]?(?:number|num|nr|no|id|#)\b\.?|#)*[\"']?(?: (?:is|was|"
        r"of))?[\s:=#\"'(\[]{1,5}((?:[a-z]{1,8}[ \-]{0,1})?[0-9][a-z0-9\-]{2,20})\b",
        score=0.97,
        check=_record,
        near=r"(?i)(?:mrn|med(?:ical)?[ _-]?rec|patient|pat[ _-]?id|hospital|chart|health|ehr|emr|uhid|pid|admitted|clinic|specimen|"
        r"accession)",
        required=True,
        hints=(
            "mrn",
            "rec",
            "pat",
            "pid",
            "hospital",
            "chart",
            "ehr",
            "emr",
            "uhid",
            "case",
            "encounter",
            "visit",
            "admission",
            "accession",
            "specimen",
            "study",
            "account",
        ),
        says="a medical record, patient, encounter or specimen number by its label",
    ),
    Pattern(
        "health-plan",
        _I,
        r"(?i)\b(?:member|subscriber|beneficiary|health[ _-]?plan|insurance|insured|policy(?:holder)?|group|medicaid|medicare|medi-?cal|"
        r"hicn|payer|plan|krankenversicher\S{0,12}|versicherten\S{0,8}|ehic)"
        r"(?:[ _-]{0,2}(?:member|policy|beneficiary|insurance|card)?[ _-]?(?:number|num|nr|no|id|#)\b\.?|#| ?#)+[\"']?(?: (?:is|"
        r"was))?[\s:=#\"'(]{1,5}((?:[a-z]{1,6}[ \-]?){0,2}[0-9][a-z0-9\-]{3,20})\b",
        score=0.8,
        near=r"(?i)(?:patient|health|insur|medic|coverage|blue ?cross|aetna|cigna|humana|kaiser|united ?health|payer|copay|hospital|"
        r"clinic|beneficiary|subscriber|diagnos)",
        lifted=0.95,
        before=160,
        after=80,
        hints=(
            "member",
            "subscriber",
            "benefici",
            "plan",
            "insur",
            "policy",
            "group",
            "medic",
            "medi-cal",
            "hicn",
            "payer",
            "versicher",
            "ehic",
        ),
        says="a health plan's member, subscriber, policy or group number by its label",
    ),
    Pattern(
        "icd",
        "phi.clinical",
        r"\b([A-TV-Z][0-9][0-9AB]\.[0-9A-TV-Z]{1,4})\b",
        score=0.75,
        check=_icd,
        near=r"(?i)(?:icd|dx|diagnos|code|patient|\bpt\b|problem|assessment|impression|billing|hx)",
        lifted=0.97,
        beside="w.-/",
        says="ICD-10 code with a dot",
    ),
    Pattern(
        "icd-typed",
        "phi.clinical",
        r"(?i)\b(?:icd(?:-?(?:9|10|11))?(?:-?(?:cm|pcs))?|dx|diagnos[ie]s)(?:[ _-]?codes?)?[\"']?(?: is)"
        r"?[\s:=#\"'(\[]{1,4}([a-tv-z][0-9][0-9ab](?:\.?[0-9a-tv-z]{1,4})?|[0-9]{3}(?:\.[0-9]{1,2})?|[ev][0-9]{2,3}(?:\.[0-9]{1,2})?)\b",
        score=0.95,
        hints=("icd", "dx", "diagnos"),
        says="a diagnosis code by its label",
    ),
    Pattern(
        "loinc",
        "phi.clinical",
        r"\b([0-9]{3,5}-[0-9])\b",
        near=r"(?i)\bloinc\b",
        required=True,
        beside="w-./",
        says="LOINC code, the word near",
    ),
    Pattern(
        "cpt",
        "phi.clinical",
        r"(?i)\b(?:cpt|hcpcs|snomed(?:[ -]?ct)?|rxnorm|ndc|drg)(?:[ _-]?codes?)?[\"']?[\s:=#\"'(]{1,4}([a-z]?[0-9]{2,18}(?:-[0-9]{1,4})"
        r"{0,2})\b",
        score=0.9,
        hints=("cpt", "hcpcs", "snomed", "rxnorm", "ndc", "drg"),
        says="codes of procedures, drugs and findings by their label",
    ),
    Pattern(
        "lab-value",
        "phi.clinical",
        rf"(?i)\b((?:{_LAB})(?: (?:level|value|count|result|reading))?[\"']?(?: (?:is|was|of|at|came back(?: at)?|"
        rf"measured))?[\s:=~\"'(]{{1,4}}[0-9]{{1,4}}(?:[.,][0-9]{{1,3}})? ?(?:{_UNIT}))(?:[^a-z0-9]|$)",
        score=0.85,
        says="a lab value or vital sign with its unit",
    ),
    Pattern(
        "lab-bare",
        "phi.clinical",
        r"(?i)\b((?:hb ?a1c|a1c|tsh|inr|egfr|psa|troponin|creatinine|hemoglobin|hgb|wbc|platelets?|bnp|crp|ldl|hdl|potassium|sodium|spo2|"
        r"gcs|bmi)(?: (?:is|was|of|at))?[\s:=]{1,3}[0-9]{1,4}(?:[.,][0-9]{1,3})?)\b",
        score=0.75,
        says="a lab value without a unit",
    ),
    Pattern(
        "blood-pressure",
        "phi.clinical",
        r"(?i)\b((?:bp|blood pressure|rr|b/p)(?: (?:is|was|of|reading|at))*[\s:=]{1,3}[0-9]{2,3} ?(?:/|over) ?[0-9]{2,3}(?: ?mm ?hg)?|"
        r"[0-9]{2,3}/[0-9]{2,3} ?mm ?hg)\b",
        score=0.9,
        says="a blood pressure",
    ),
    Pattern(
        "medication",
        "phi.clinical",
        r"(?i)\b([a-z][a-z\-]{4,24}(?: (?:xr|er|sr|hcl|sodium))? [0-9]{1,5}(?:[.,][0-9]{1,2})? ?(?:mg|mcg|µg|units?|iu|"
        r"meq)(?:/[a-z]{1,4})?(?: (?:po|iv|im|sc|subq|sl|pr|by mouth|oral(?:ly)?))?(?: (?:qd|bid|tid|qid|qhs|daily|nightly|weekly|prn|"
        r"q[0-9]{1,2}h|once|twice|every)[a-z0-9 ]{0,12})?)\b",
        score=0.7,
        check=lambda text: text.split()[0].lower() not in _NO_DRUG,
        says="a medication with its dose, of a described patient",
    ),
    Pattern(
        "diagnosed",
        "phi.clinical",
        r"(?i)\b(?:(?:was|is|been|were|got|being|am|i'm|newly|recently) (?:recently |newly |just )?(?:diagnosed with|suffering from|"
        r"treated for|hospitali[sz]ed (?:for|with)|admitted (?:for|with))|history of|h/o|s/p|presents? with|presented with|"
        r"presenting with|complain(?:s|ed|ing) of|c/o|p/w|tested positive for|dx:?|diagnosis:|impression:|chief complaint:|allergic to)"
        r" ((?:[a-z0-9][a-z0-9\-]{1,24})(?: (?:[a-z0-9][a-z0-9\-]{1,24}|i{1,3})){0,3})",
        score=0.7,
        digit=False,
        hints=(
            "diagnos",
            "suffering",
            "treated for",
            "hospitali",
            "admitted",
            "history of",
            "h/o",
            "s/p",
            "present",
            "complain",
            "c/o",
            "p/w",
            "positive for",
            "dx",
            "impression",
            "chief complaint",
            "allergic",
        ),
        says="what a described patient was diagnosed with or presents with",
    ),
)
