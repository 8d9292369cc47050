"""Numbers that an authority gives to a person, a provider or a vehicle. Those with a weak form need a word near them."""

from __future__ import annotations

from stockade.privacy.patterns import checks
from stockade.privacy.patterns.checks import Check
from stockade.privacy.patterns.subject import Pattern

_CATEGORY = "pii.government"


def _national(name: str, expression: str, check: Check, near: str, says: str, *, alone: float = 0.0) -> Pattern:
    """A national number with a checksum; `alone` is its score without context, 0: none without."""
    return Pattern(
        name,
        _CATEGORY,
        rf"(?i)\b({expression})\b",
        score=alone,
        check=check,
        near=rf"(?i)(?:^|[^a-z])(?:{near})(?:$|[^a-z])",
        required=not alone,
        lifted=0.98,
        beside="-.",
        says=says,
    )


_LABEL_END = r"[\"']?(?:[ _-]?(?:number|num|nr|no|id|code|#)\b\.?)?[\"']?(?: is| was)?[\s:=#\"'(]{1,5}"

PATTERNS = (
    Pattern(
        "us-ssn",
        _CATEGORY,
        r"\b([0-9]{3}-[0-9]{2}-[0-9]{4})\b",
        score=0.9,
        check=checks.ssn,
        near=r"(?i)\b(?:ssn|social|soc sec|tax ?id|taxpayer)\b",
        lifted=1.0,
        beside="w-./",
        says="US social security number as 123-45-6789: areas and groups that were issued",
    ),
    Pattern(
        "us-ssn-context",
        _CATEGORY,
        r"\b([0-9]{3}[ .\-]?[0-9]{2}[ .\-]?[0-9]{4})\b",
        near=r"(?i)(?:ssn|social[ _-]?sec|soc\.? ?sec|social(?: number| is|:)|ss ?#|ss no)",
        required=True,
        before=50,
        beside="w-",
        says="US social security number in other spellings, with context; also those never issued",
    ),
    Pattern(
        "us-ssn-short",
        _CATEGORY,
        r"(?i)(?:\bssn\b|social(?: security)?)[^\n0-9]{0,40}(?:ending(?: in)?|last (?:4|four)(?: digits)?|x{3}-?x{2}-?|"
        r"\*{3}-?\*{2}-?)[^\n0-9]{0,16}([0-9]{4})\b",
        hints=("ssn", "social"),
        says="the last four digits of a social security number",
    ),
    Pattern(
        "us-itin",
        _CATEGORY,
        r"\b(9[0-9]{2}[- ][0-9]{2}[- ][0-9]{4})\b",
        check=checks.itin,
        score=0.85,
        beside="w-.",
        says="US taxpayer number: groups in use",
    ),
    Pattern(
        "us-ein",
        _CATEGORY,
        r"\b([0-9]{2}-[0-9]{7})\b",
        check=checks.ein,
        near=r"(?i)\b(?:ein|fein|employer id|tax ?id|federal id|irs|tin)\b",
        required=True,
        beside="w-.",
        says="US employer number: prefixes in use, with context",
    ),
    Pattern(
        "us-npi",
        _CATEGORY,
        r"\b([12][0-9]{9})\b",
        check=checks.npi,
        near=r"(?i)\b(?:npi|national provider|provider|prescriber|physician|dr|md|clinic)\b",
        required=True,
        lifted=0.98,
        beside="-.",
        says="US provider number: Luhn with 80840, with context",
    ),
    Pattern("us-npi-typed", _CATEGORY, r"(?i)\bnpi" + _LABEL_END + r"([0-9]{10})\b", hints=("npi",), says="what is called an NPI"),
    Pattern(
        "us-dea",
        _CATEGORY,
        r"\b([ABCDEFGHJKLMPRSTUX][A-Z9][0-9]{7})\b",
        check=checks.dea,
        near=r"(?i)\bdea\b",
        required=True,
        lifted=0.98,
        says="US prescriber's DEA number: check digit, with context",
    ),
    Pattern(
        "us-medicare",
        _CATEGORY,
        r"(?i)\b([1-9][ac-hjkmnp-rt-y][0-9ac-hjkmnp-rt-y][0-9]-?[ac-hjkmnp-rt-y][0-9ac-hjkmnp-rt-y][0-9]-?[ac-hjkmnp-rt-y]{2}[0-9]{2})\b",
        score=0.75,
        near=r"(?i)\b(?:medicare|mbi|beneficiary|member)\b",
        beside="w-",
        says="US Medicare beneficiary identifier by its form",
    ),
    _national(
        "uk-nhs", r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{4}", checks.nhs, r"nhs|patient|health service", "UK NHS number: mod 11, with context"
    ),
    Pattern(
        "uk-nino",
        _CATEGORY,
        r"(?i)\b([abceghj-prstw-z][abceghj-nprstw-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[a-d])\b",
        score=0.8,
        near=r"(?i)(?:national insurance|\bni(?:no)?\b)",
        beside="w-.",
        says="UK national insurance number",
    ),
    _national(
        "ca-sin",
        r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{3}",
        checks.sin,
        r"sin|social insurance|nas|canad(?:a|ian)",
        "Canada SIN: Luhn, with context",
    ),
    _national(
        "de-steuer-id",
        r"[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}",
        checks.steuer_id,
        r"steuer\S{0,30}|tax ?id|idnr|tin|german\S*",
        "Germany tax id: mod 11,10, with context",
    ),
    Pattern(
        "de-social",
        _CATEGORY,
        r"(?i)(?:sozialversicherung\S{0,10}|rentenversicherung\S{0,10}|svnr|rvnr)[^\n0-9]{0,12}([0-9]{2} ?[0-9]{6} ?[a-z] ?[0-9]{3})\b",
        hints=("sozialvers", "rentenvers", "svnr", "rvnr"),
        says="Germany social insurance number with context",
    ),
    _national(
        "fr-nir",
        r"[12378478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        checks.nir,
        r"nir|s[eé]cu\S*|insee|social",
        "France NIR: mod 97",
        alone=0.9,
    ),
    _national(
        "es-dni",
        r"[xyz]?-?[0-9]{7,8}-?[a-z]",
        checks.dni,
        r"dni|nie|nif|identidad|spain|spanish|espa\S*",
        "Spain DNI and NIE: check letter",
        alone=0.75,
    ),
    _national(
        "it-codice-fiscale",
        r"[a-z]{6}[0-9lmnp-v]{2}[a-ehlmprst][0-9lmnp-v]{2}[a-z][0-9lmnp-v]{3}[a-z]",
        checks.codice_fiscale,
        r"codice|fiscale|cf|tax",
        "Italy codice fiscale: check letter",
        alone=1.0,
    ),
    _national(
        "in-aadhaar",
        r"[2-9][0-9]{3}[ \-]?[0-9]{4}[ \-]?[0-9]{4}",
        checks.aadhaar,
        r"aadh?aar|uid(?:ai)?|india\S*",
        "India Aadhaar: Verhoeff, with context",
    ),
    Pattern(
        "in-pan",
        _CATEGORY,
        r"\b([A-Z]{3}[ABCFGHLJPT][A-Z][0-9]{4}[A-Z])\b",
        score=0.7,
        near=r"(?i)\b(?:pan|income tax|india)\b",
        says="India PAN by its form",
    ),
    _national(
        "nl-bsn",
        r"[0-9]{8,9}|[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}|[0-9]{3}[. ][0-9]{3}[. ][0-9]{3}",
        checks.bsn,
        r"bsn|burgerservice\S*|sofi\S*|dutch|netherlands",
        "Netherlands BSN: by 11, with context",
    ),
    _national("br-cpf", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", checks.cpf, r"cpf", "Brazil CPF: two check digits", alone=0.98),
    _national("br-cpf-plain", r"[0-9]{11}", checks.cpf, r"cpf|cadastro|brazil\S*", "Brazil CPF without separators, with context"),
    _national(
        "br-cnpj", r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}/[0-9]{4}-[0-9]{2}", checks.cnpj, r"cnpj", "Brazil CNPJ: two check digits", alone=0.9
    ),
    _national(
        "au-tfn",
        r"[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{2,3}",
        checks.tfn,
        r"tfn|tax file|australia\S*",
        "Australia tax file number, with context",
    ),
    _national(
        "au-medicare",
        r"[2-6][0-9]{3}[ \-]?[0-9]{5}[ \-]?[0-9](?:[ /\-]?[0-9])?",
        checks.medicare_au,
        r"medicare|australia\S*",
        "Australia Medicare number, with context",
    ),
    _national("pl-pesel", r"[0-9]{11}", checks.pesel, r"pesel|polish|poland|polsk\S*", "Poland PESEL, with context"),
    _national(
        "se-personnummer",
        r"(?:19|20)?[0-9]{6}[\-+]?[0-9]{4}",
        checks.personnummer,
        r"person\S*|pnr|swed\S*|samordning\S*",
        "Sweden personnummer: Luhn, with context",
    ),
    _national(
        "no-fodselsnummer",
        r"[0-9]{6} ?[0-9]{5}",
        checks.fodselsnummer,
        r"f(?:ø|o|oe)dsels\S*|fnr|norw\S*",
        "Norway birth number: two check digits",
        alone=0.8,
    ),
    _national(
        "fi-hetu",
        r"[0-9]{6}[\-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
        checks.hetu,
        r"hetu|henkil\S*|finnish|finland",
        "Finland HETU: check character",
        alone=0.9,
    ),
    _national(
        "dk-cpr",
        r"(?:0[1-9]|[12][0-9]|3[01])(?:0[1-9]|1[0-2])[0-9]{2}-?[0-9]{4}",
        lambda _: True,
        r"cpr\S*|danish|danmark",
        "Denmark CPR number by its date, with context",
    ),
    _national(
        "be-national",
        r"[0-9]{2}[.\- ]?[0-9]{2}[.\- ]?[0-9]{2}[.\- ]?[0-9]{3}[.\- ]?[0-9]{2}",
        checks.belgian_national,
        r"rijksregister\S*|national(?: register)?|niss|insz|belg\S*",
        "Belgium national number: mod 97, with context",
    ),
    _national(
        "ch-ahv", r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}", checks.ahv, r"ahv|avs|swiss", "Switzerland AHV number: EAN-13", alone=1.0
    ),
    _national("ie-pps", r"[0-9]{7}[a-w][a-iw]?", checks.pps, r"pps[n]?|ireland|irish", "Ireland PPS number: check letter, with context"),
    _national("kr-rrn", r"[0-9]{6}-[1-8][0-9]{6}", checks.rrn, r"rrn|resident|korea\S*|주민\S*", "South Korea resident number", alone=0.85),
    _national(
        "cn-resident",
        r"[1-8][0-9]{16}[0-9x]",
        checks.resident_id_cn,
        r"resident|身份证\S*|china|chinese",
        "China resident number: check character",
        alone=0.95,
    ),
    _national(
        "jp-my-number",
        r"[0-9]{4}[ \-]?[0-9]{4}[ \-]?[0-9]{4}",
        checks.my_number,
        r"my ?number|individual number|マイナンバー\S*|japan\S*",
        "Japan My Number, with context",
    ),
    _national("sg-nric", r"[stfgm][0-9]{7}[a-z]", checks.nric, r"nric|fin|singapore", "Singapore NRIC: check letter", alone=0.9),
    _national(
        "za-id",
        r"[0-9]{6} ?[0-9]{4} ?[01][0-9]{2}",
        checks.rsa_id,
        r"south africa\S*|rsa|id (?:no|number)|identity",
        "South Africa identity number: Luhn and date, with context",
    ),
    Pattern(
        "mx-curp", _CATEGORY, r"\b([A-Z][AEIOUX][A-Z]{2}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9])\b", score=0.95, says="Mexico CURP by its form"
    ),
    Pattern(
        "eu-vat",
        _CATEGORY,
        r"(?i)\b(?:vat|ust[- ]?id\S{0,6}|tva|btw|iva|p\.? ?iva|nip)" + _LABEL_END + r"([a-z]{2} ?[0-9][0-9a-z .]{6,12}[0-9a-z])\b",
        score=0.75,
        hints=("vat", "ust", "tva", "btw", "iva", "nip"),
        says="a VAT number by its label",
    ),
    Pattern(
        "passport",
        _CATEGORY,
        r"(?i)\b(?:passport|reisepass|passeport|pasaporte|passaporto)(?:[ _-]?(?:number|num|nr|no|id|book|card|#)\b\.?)*[\"']?(?: (?:is|"
        r"was|of|holder|details?))?[^a-z0-9\n]{1,6}((?:[a-z]{1,3}[ -]?)?[0-9][a-z0-9]{5,9})\b",
        score=0.9,
        hints=("passport", "reisepass", "passeport", "pasaporte", "passaporto"),
        says="a passport number by its label",
    ),
    Pattern(
        "passport-near",
        _CATEGORY,
        r"\b([A-Z]{1,2}[0-9]{6,8}|[0-9]{9})\b",
        near=r"(?i)\bpassport\b",
        required=True,
        before=60,
        lifted=0.8,
        beside="-.",
        says="the form of a passport number, the word near",
    ),
    Pattern(
        "passport-mrz",
        _CATEGORY,
        r"(P[A-Z<][A-Z]{3}[A-Z<]{39}\s{0,2}[A-Z0-9<]{9}[0-9][A-Z]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9])",
        score=1.0,
        says="the machine-readable zone of a passport",
    ),
    Pattern(
        "driver-licence",
        _CATEGORY,
        r"(?i)\b(?:driv(?:er'?s?|ing)(?:'s)?[ _-]?licen[cs]e|licen[cs]e (?:number|no\.?|#)|dl(?:n| ?#| no\.?| number)|"
        r"operator'?s? licen[cs]e|f[uü]hrerschein\S{0,8}|permis de conduire|patente(?: di guida)?|permiso de conducir|rijbewijs)"
        r"(?:[ _-]?(?:number|num|nr|no|id|#)\b\.?)*[\"']?(?: (?:is|was))?(?:\s?\([a-z]{2}\)|"
        r" [a-z]{2}(?: dl)?)?[^a-z0-9\n]{1,5}((?:[a-z]{1,6}[ -]?)?[0-9][a-z0-9*\-]{3,18}(?: [0-9]{3,4}){0,3})\b",
        score=0.88,
        hints=("licen", "dl", "führerschein", "fuhrerschein", "permis", "patente", "rijbewijs"),
        says="a driver's licence by its label",
    ),
    Pattern(
        "driver-licence-form",
        _CATEGORY,
        r"\b([A-Z][0-9]{7,8}|[A-Z][0-9]{12,14}|[A-Z][0-9]{3}-[0-9]{4}-[0-9]{4}|[A-Z][0-9]{3}-[0-9]{3}-[0-9]{2}-[0-9]{3}-[0-9]|"
        r"[A-Z]{1,2}[0-9]{5,6}|[0-9]{7,9}|[A-Z9]{5}[0-9]{6}[A-Z9]{2}[0-9][A-Z]{2}|[A-Z]{3}[*A-Z]{2}[A-Z0-9]{5,7})\b",
        near=r"(?i)(?:driv(?:er|ing)[^\n]{0,6}licen[cs]e|\bdmv\b|\bdvla\b|\bdl\b)",
        required=True,
        before=60,
        lifted=0.8,
        beside="-.",
        says="the form of a licence of a US state or the UK, the word near",
    ),
    Pattern(
        "uk-driver-licence",
        _CATEGORY,
        r"\b([A-Z]{2,5}9{0,3}[0-9][0156][0-9][0-3][0-9]{2}[A-Z][A-Z9][0-9A-Z]{3})\b",
        score=0.8,
        check=lambda text: len(text) == 16,
        says="UK driving licence by its form",
    ),
    Pattern(
        "vin",
        _CATEGORY,
        r"\b([A-HJ-NPR-Z0-9]{17})\b",
        score=0.85,
        check=checks.vin,
        near=r"(?i)\b(?:vin|vehicle|car|chassis)\b",
        beside="-./",
        says="vehicle identification number: check digit",
    ),
    Pattern(
        "plate",
        _CATEGORY,
        r"(?i)\b(?:licen[cs]e plate|number plate|plate (?:number|no\.?|#)|plates?|vehicle registration|kennzeichen|"
        r"registration (?:number|plate|no\.?))[\"']?(?: (?:is|was|"
        r"number))?[\s:=#\"']{1,4}([a-z0-9]{1,4}[ \-·]?(?:[a-z]{0,2}[ -]?)[a-z]?[0-9][a-z0-9]{1,5}(?: [a-z]{3})?)\b",
        score=0.75,
        hints=("plate", "kennzeichen", "registration"),
        says="a vehicle's plate by its label",
    ),
    Pattern(
        "id-typed",
        _CATEGORY,
        r"(?i)\b(?:national[ _-]?(?:id(?:entity)?|identification)|id(?:entity)?[ _-]?card|citizen[ _-]?id|"
        r"tax(?:payer)?[ _-]?(?:id(?:entification)?|identifier)|tin|alien (?:registration|number)|uscis|visa|green card|"
        r"voter(?:'s)?[ _-]?id|personalausweis\S{0,8}|carte d'identit[eé]|student[ _-]?id|employee[ _-]?(?:id|number|no)|emp[ _-]?id|"
        r"badge|medical licen[cs]e|licen[cs]e)"
        r"(?:[ _-]?(?:number|num|nr|no|id|#)\b\.?)*[\"']?(?: (?:is|"
        r"was))?[\s:=#\"']{1,4}((?:[a-z]{1,5}[ \-]?)?[0-9][a-z0-9\-./]{3,20}[a-z0-9])\b",
        score=0.75,
        hints=("id", "tin", "alien", "uscis", "visa", "green card", "personalausweis", "identit", "employee", "badge", "licen"),
        beside="",
        says="an identity, tax, employee or licence number by its label",
    ),
)
