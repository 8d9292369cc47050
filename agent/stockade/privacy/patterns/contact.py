"""Ways to reach or to know a person: mail, phone, user names, pages, addresses of machines and of houses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import phonenumbers

from stockade.privacy.finding import Finding
from stockade.privacy.patterns.subject import Pattern, Subject, compiled

_C = "pii.contact"


def _address4(text: str) -> bool:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255.") or text.endswith(".0.0.0"))


def _address6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return False
    return len(text) > 5 and not (address.is_loopback or address.is_unspecified)


def _mac(text: str) -> bool:
    return len(set(text.replace(":", "-").split("-"))) > 1


_NO_MAIL = re.compile(r"(?i)@(?:users\.noreply|[\w.-]*\.(?:png|jpe?g|gif|svg|js|css|py|service|socket|target)$)|^git@")


def _mail(text: str) -> bool:
    return not _NO_MAIL.search(text)


_STREET = (
    r"street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|terrace|ter|way|circle|cir|trail|trl|parkway|pkwy|"
    r"highway|hwy|square|sq|"
    r"crescent|close|alley|aly|loop|row|mews|walk|path|plaza|turnpike|pike|run|ridge|point|pt|heights|hts|gardens|gdns|grove|hill|cove|"
    r"crossing|expressway|freeway"
)
_UNIT = r"(?:,?\s(?:apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|#)\.?\s?#?[0-9a-z\-]{1,6}\b)?"
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|"
    "UT|VT|VA|WA|WV|WI|WY|PR|GU|VI|AS|MP"
)
_NAME = r"[a-z0-9.'\-\x{a1}-\x{2fff}]{1,24}"

_NO_USER_WORDS = (
    "none null true false string str required optional root admin user username name is the your example default anonymous "
    "and or not self this"
)
_NO_USER = frozenset(_NO_USER_WORDS.split())

PATTERNS = (
    Pattern(
        "email",
        _C,
        r"(?i)([a-z0-9\x{80}-\x{ffff}][a-z0-9._%+'\-\x{a1}-\x{1fff}]{0,63}@[a-z0-9\-.\x{a1}-\x{ffff}]{1,120}\.[a-z\x{a1}-\x{ffff}]{2,24})",
        score=0.99,
        check=_mail,
        hints=("@",),
        digit=False,
        says="e-mail address",
    ),
    Pattern(
        "email-spelt",
        _C,
        r"(?i)\b([a-z0-9][a-z0-9._+\-]{1,40}\s?[\[(]\s?at\s?[\])]\s?[a-z0-9\-]{2,40}(?:\s?[\[(]\s?dot\s?[\])]\s?|"
        r"\.)[a-z]{2,12}(?:\.[a-z]{2,6})?)\b",
        score=0.9,
        hints=("at]", "at)", "at ]", "at )"),
        digit=False,
        says="e-mail address with at and dot spelt out",
    ),
    Pattern(
        "ipv4",
        _C,
        r"\b((?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})){3})\b",
        score=0.8,
        check=_address4,
        beside="w.-",
        says="IPv4 address, not of loopback",
    ),
    Pattern(
        "ipv6",
        _C,
        r"(?i)((?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{1,4}(?:%[a-z0-9]{1,15})?)",
        score=0.85,
        check=_address6,
        beside="w:.",
        hints=(":",),
        says="IPv6 address, not of loopback",
    ),
    Pattern(
        "mac",
        _C,
        r"(?i)\b([0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5})\b",
        score=0.85,
        check=_mac,
        beside=":-",
        says="MAC address",
    ),
    Pattern(
        "imei",
        _C,
        r"(?i)\b(?:imei|meid|esn|imsi|iccid|device id|serial(?: number| no\.?)?|udi)[\"']?(?: (?:is|no\.?|"
        r"number))?[\s:=#\"']{1,4}([a-z0-9]{1,6}[0-9][a-z0-9\-]{4,22})\b",
        score=0.75,
        hints=("imei", "meid", "esn", "imsi", "iccid", "device id", "serial", "udi"),
        says="a device's number by its label",
    ),
    Pattern(
        "handle",
        _C,
        r"(?i)(?:^|[\s(\"':,])(@[a-z_][a-z0-9_.]{2,29})\b",
        score=0.6,
        near=r"(?i)\b(?:twitter|instagram|insta|tiktok|telegram|mastodon|threads|github|handle|follow|snapchat|discord|slack|dm|profile|"
        r"account)\b",
        required=True,
        lifted=0.8,
        hints=("@",),
        digit=False,
        says="a handle, a network's name near",
    ),
    Pattern(
        "username",
        _C,
        r"(?i)\b(?:user[ _-]?(?:name|id)|login(?: name)?|screen[ _-]?name|handle|nickname|skype(?: id)?|discord|snapchat|telegram|wechat|"
        r"instagram|twitter)[\"']?(?: (?:is|was|id|name))?\s{0,2}[:=#]\s{0,2}[\"']?([a-z0-9@][a-z0-9._#\-]{2,31})",
        score=0.7,
        hints=("user", "login", "name", "handle", "skype", "discord", "snapchat", "telegram", "wechat", "instagram", "twitter"),
        digit=False,
        check=lambda text: text.lower().strip("@") not in _NO_USER,
        says="a user name by its label",
    ),
    Pattern(
        "username-prose",
        _C,
        r"(?i)\b(?:user ?name|user id|login|screen name|handle)(?: is| was|,)?[ \"'(:]{1,3}([a-z][a-z._\-]{1,24}[0-9_][a-z0-9._\-]{0,16})",
        score=0.7,
        hints=("user", "login", "screen", "handle"),
        says="a user name in a sentence",
    ),
    Pattern(
        "profile",
        _C,
        r"(?i)\b((?:https?://)?(?:www\.)?(?:linkedin\.com/in|facebook\.com|fb\.com|instagram\.com|twitter\.com|x\.com|tiktok\.com/@|"
        r"github\.com|gitlab\.com|t\.me|medium\.com/@|youtube\.com/@|reddit\.com/u(?:ser)?|mastodon\.social/@|"
        r"bsky\.app/profile)/?[a-z0-9][a-z0-9._\-]{1,38})(?:[\s,;)\]\"'>?]|/?$|[.!]\s|/\s)",
        score=0.75,
        hints=(".com/", "t.me/", ".social/", "bsky.app"),
        digit=False,
        says="a person's page at a network",
    ),
    Pattern(
        "personal-page",
        _C,
        r"(?i)\b(?:personal (?:web)?(?:site|page)|homepage|my (?:web)?(?:site|page|blog)|(?:his|her|their) (?:web)?(?:site|page|blog)|"
        r"portfolio|web ?site|url|patient portal|profile)[\"']?(?: (?:is|at))?[\s:=\"']{1,3}((?:https?://|"
        r"www\.)[^\s\"'<>]{4,120}[a-z0-9/])",
        score=0.75,
        hints=("http", "www."),
        digit=False,
        says="a person's page by its label",
    ),
    Pattern(
        "url-of-person",
        _C,
        r"(?i)\b(https?://[^\s\"'<>/]{3,80}/(?:[^\s\"'<>]{0,80}/)?(?:~|users?/|people/|person/|profiles?/|members?/|patients?/|"
        r"accounts?/)[a-z0-9][^\s\"'<>/]{1,60})",
        score=0.75,
        hints=("http",),
        digit=False,
        says="a URL whose path names a person",
    ),
    Pattern(
        "street",
        "pii.location",
        r"(?i)\b([0-9]{1,6}[a-z]?(?:-[0-9]{1,4})?,?\s(?:(?:n|s|e|w|ne|nw|se|sw|north|south|east|west)\.?\s)?(?:"
        + _NAME
        + r"\s){1,4}(?:"
        + _STREET
        + r")\b\.?(?:\s(?:n|s|e|w|ne|nw|se|sw)\b)?"
        + _UNIT
        + r")",
        score=0.8,
        check=lambda text: _likely_street(text),
        says="a street address in the order of English",
    ),
    Pattern(
        "street-line",
        "pii.location",
        r"(?i)\b([0-9]{1,6}\s(?:"
        + _NAME
        + r"\s?){1,5}"
        + _UNIT
        + r",\s[\pL .'\-]{2,30},?\s(?:"
        + _STATES
        + r")\.?,?\s[0-9]{5}(?:-[0-9]{4})?)\b",
        score=0.9,
        says="number, street, town, state and zip code",
    ),
    Pattern(
        "street-european",
        "pii.location",
        r"(?i)\b([\pL\-.']{2,30}(?:stra(?:ß|ss)e|str\.|weg|gasse|allee|platz|ring|damm|ufer|straat|laan|plein|gatan|v[aä]gen|vej|gade|"
        r"gata|veien|katu)\s?[0-9]{1,4}\s?[a-z]?)\b",
        score=0.85,
        says="a street address of German, Dutch and Nordic form",
    ),
    Pattern(
        "street-romance",
        "pii.location",
        r"(?i)\b((?:[0-9]{1,4}\s?(?:bis|ter)?,?\s)?(?:rue|avenue|boulevard|all[eé]e|chemin|impasse|quai|place|via|viale|piazza|corso|"
        r"calle|avenida|avda\.?|paseo|plaza|rua|travessa|pra[cç]a|ulica|ul\.)\s(?:(?:de|du|des|la|le|del|della|dei|do|da|dos|las|los|d'|"
        r"l')\s?){0,2}[\pL'’.\-]{2,24}(?:\s[\pL'’.\-]{2,24}){0,3},?\s?(?:n[º°o]\.?\s)?[0-9]{1,4}?)(?:[,\s.;]|$)",
        score=0.7,
        check=lambda text: any(c.isdigit() for c in text),
        says="a street address of Romance and Polish form, with a number",
    ),
    Pattern(
        "po-box",
        "pii.location",
        r"(?i)\b((?:p\.?\s?o\.?\s?box|post(?:al)? (?:office )?box|postfach)\s#?[0-9]{1,7})\b",
        score=0.85,
        hints=("box", "postfach"),
        says="a post office box",
    ),
    Pattern(
        "zip",
        "pii.location",
        r"\b(?:" + _STATES + r")\.?,?\s{1,2}([0-9]{5}(?:-[0-9]{4})?)\b",
        score=0.85,
        says="US zip code after its state",
    ),
    Pattern("zip-long", "pii.location", r"\b([0-9]{5}-[0-9]{4})\b", score=0.6, beside="-.w", says="US zip code with four more digits"),
    Pattern(
        "zip-typed",
        "pii.location",
        r"(?i)\b(?:zip(?:[ _-]?code)?|post(?:al)?[ _-]?code|postcode|plz|pin ?code|cap)\b[\"']?(?: (?:is|"
        r"of))?[\s:=#\"']{1,4}([0-9]{4,6}(?:-[0-9]{3,4})?|[a-z][0-9][a-z] ?[0-9][a-z][0-9])\b",
        score=0.85,
        hints=("zip", "post", "plz", "pin", "cap"),
        says="a postal code by its label",
    ),
    Pattern("uk-postcode", "pii.location", r"\b([A-Z]{1,2}[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2})\b", score=0.85, says="UK postcode"),
    Pattern(
        "ca-postcode",
        "pii.location",
        r"\b([ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z] [0-9][ABCEGHJ-NPRSTV-Z][0-9])\b",
        score=0.85,
        says="Canadian postal code",
    ),
    Pattern(
        "coordinates",
        "pii.location",
        r"(-?(?:90(?:\.0+)?|[1-8]?[0-9]\.[0-9]{4,10})°?\s?[NS]?,\s?-?(?:180(?:\.0+)?|1?[0-9]{1,2}\.[0-9]{4,10})°?\s?[EW]?)\b",
        score=0.8,
        beside="w.",
        says="latitude and longitude with four decimals or more",
    ),
)

_NOT_STREETS = re.compile(
    r"(?i)^[0-9]+ (?:\S+ )*?(?:minutes?|hours?|days?|weeks?|months?|years?|mg|ml|times|percent|people|of|and|or|in|is|was|are|the|to|"
    r"with|from|for|that|which|items?|files?|lines?|tests?|points?|steps?|more|ways?) "
)


def _likely_street(text: str) -> bool:
    """'3 simple way' is none: a name in a street begins with a capital or a digit unless all is written small and the ending is
    unmistakable.
    """
    if _NOT_STREETS.match(text + " "):
        return False
    words = text.replace(",", " ").split()[1:]
    if any(word[0].isupper() for word in words):
        return True
    ending = [word.strip(".") for word in words]
    return len(words) <= 5 and any(word in ("street", "avenue", "ave", "road", "rd", "boulevard", "blvd", "lane", "ln") for word in ending)


_PHONE_CONTEXT = compiled(
    r"(?i)(?:^|[^a-z])(?:phones?|tel|telephone|mobile|cell(?:phone)?|call(?:ed|ing)?|fax|contact|whats ?app|text(?:ed)?|sms|dial|"
    r"reach(?:ed)?|number|emergency|ph|pager|voicemail|hotline|"
    r"telefon|t[eé]l[eé]phone|tel[eé]fono|telefone|m[oó]vil|handy|mob|line|ring)(?:$|[^a-z])"
)
_PHONE = compiled(
    r"(\+[1-9][0-9]{0,2}[ .\-/]?(?:\(0?[0-9]{0,4}\)[ .\-/]?)?[0-9](?:[ .\-/]{0,2}[0-9]){5,12}|"  # international
    r"\(?0?[0-9]{2,5}\)[ .\-/]{0,2}[0-9](?:[ .\-/]?[0-9]){4,9}|"  # with its area in parentheses
    r"[0-9](?:[ .\-/]?[0-9]){6,13})"
    r"(?:,?\s?(?:x|ext|extension)\.?\s?[0-9]{1,6})?\b"
)
_NANP = compiled(r"^(?:1[ .\-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .\-])[2-9][0-9]{2}[ .\-][0-9]{4}")
_SHORT = compiled(r"^[0-9]{3}[ .\-][0-9]{4}$")
_REGIONS = ("US", "GB", "DE", "FR", "IN", "AU")


class Phones:
    """Telephone numbers. What looks like one is asked of the phonenumbers library; a bare row of digits needs a word near it."""

    name = "phone"

    def find(self, subject: Subject) -> Iterator[Finding]:
        if not subject.has_digit:
            return
        data = subject.data
        for start, end, match in subject.matches(_PHONE):
            value_start, value_end = match.span(1)
            if start and (data[start - 1 : start].isalnum() or data[start - 1 : start] in b"_-.$/#=@"):
                continue
            if data[end : end + 1] in (b"-", b"/", b"_", b"%", b":") and data[end + 1 : end + 2].isalnum():
                continue
            value = data[value_start:value_end].decode()
            score = self._score(value, data, start, end)
            if score:
                yield subject.finding(start, end, "pii.contact", f"pattern:{self.name}", score)

    def _score(self, value: str, data: bytes, start: int, end: int) -> float:
        digits = sum(character.isdigit() for character in value)
        near = _PHONE_CONTEXT.search(data[max(0, start - 50) : start] + b" \x00 " + data[end : end + 16]) is not None
        if value.startswith("+"):
            return 0.98 if _valid(value, None) else 0.85 if near or digits >= 10 else 0.0
        if _NANP.search(value.encode()):
            return 0.95 if _valid(value, "US") else 0.85
        if _SHORT.search(value.encode()):
            return 0.75 if near else 0.0
        if not near:
            grouped = sum(character in " -./()" for character in value) >= 2
            return (
                0.75
                if grouped and value.startswith(("0", "(0")) and digits >= 9 and not _DATE_LIKE.match(value) and _any_region(value)
                else 0.0
            )
        if _DATE_LIKE.match(value):
            return 0.0
        if value.startswith("00"):
            return 0.95 if _valid("+" + value[2:], None) else 0.7
        return 0.85 if _any_region(value) else 0.65 if 7 <= digits <= 13 else 0.0


_DATE_LIKE = re.compile(
    r"^(?:[0-9]{4}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ][0-9]{4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3}$)"
)


def _valid(value: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(value, region))
    except phonenumbers.NumberParseException:
        return False


def _any_region(value: str) -> bool:
    return any(_valid(value, region) for region in _REGIONS)
