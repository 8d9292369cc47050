"""What of a request's head is text: its target and its headers, each with what is believed about it.

A name in a query and a number in a header leave as surely as in a body. But most of a head is what client libraries say of themselves, in
forms that no sentence has; a model that was taught on prose sees people in them. So where the whole of a value has the form that its header
is known to have, only detectors that check forms themselves are believed, and a canary is always. What has another form is read as any
text is: a form is never a way to let prose pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, unquote_plus

from stockade.privacy.finding import Finding
from stockade.proxy.ladder import Head

CANARY = "credential.canary"


class Trust(Enum):
    """Which findings count.

    ALL: any. FORMED: not the model's, nor what only looks random. SECRET: what the policy itself looks for, and canaries, in a credential
    of the very host or a number that stands for nothing else. SPOKEN: where a credential should be and is none: all but credentials.
    """

    ALL = "all"
    FORMED = "formed"
    SECRET = "secret"
    SPOKEN = "spoken"


@dataclass(frozen=True, slots=True)
class Part:
    """A text of the head. header: which of its headers, None for the target."""

    text: str
    trust: Trust
    header: int | None = None

    def counts(self, finding: Finding) -> bool:
        """Whether a finding is to be believed in a part of the head, by how far the part is trusted to be text."""
        if finding.category == CANARY or self.trust is Trust.ALL:
            return True
        family = finding.detector.partition(":")[0]
        if self.trust is Trust.FORMED:
            return family not in ("model", "random")
        if self.trust is Trust.SECRET:
            return family in ("custom", "dictionary")
        return not finding.category.startswith("credential.")


_OF_THE_HOP = frozenset({"connection", "upgrade", "http2-settings", "keep-alive", "proxy-connection", "te"})
# What a client must send to be who it is.
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "x-auth-token", "private-token"}) | frozenset(
    {"x-api-key", "api-key", "apikey", "x-goog-api-key", "x-amz-security-token", "ocp-apim-subscription-key"}
)
_SCHEME = r"(?:(?:bearer|basic|token|key|apikey|api-key|negotiate|digest|ntlm)\s+)?"
_CREDENTIAL = re.compile(rf"{_SCHEME}[\w.~+/=:\-]{{1,16384}}|AWS4-[\w\-]+ [\w=/.,;: \-]{{1,2048}}|GoogleLogin auth=[\w.\-]+", re.I | re.A)
_COOKIE = re.compile(r"[\w.\-]{1,128}=[^\s;,]{0,4096}(?:; ?[\w.\-]{1,128}=[^\s;,]{0,4096})*", re.A)
_SPOKEN = re.compile(r"(?:\S+\s+)?[A-Za-z]{2,}(?:[._\-][A-Za-z]{2,})+")  # words, joined: a name may be spelt so, few keys are

_TOKENS = (
    r"(?:\*|application|audio|font|image|message|model|multipart|text|video)/[a-z0-9*.+\-]{1,64}(?:; ?[a-z\-]{1,16}=\"?[\w.\-]{1,70}\"?)*"
)
_HOPS = (
    "gzip|deflate|br|zstd|compress|identity|chunked|trailers|keep-alive|close|upgrade|te|http2-settings|websocket|h2c|100-continue|x-gzip"
    r"|no-cache|no-store|max-age=\d{1,9}|permessage-deflate|client_max_window_bits|\*"
)
_LISTED = rf"(?:(?:{_HOPS})(?:;q=[\d.]{{1,5}})?[,; ]{{0,2}})+"
_DAY = r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
_ORIGIN = r"https?://[a-z0-9.\-]{1,253}(?::\d{1,5})?/?|null"
_FORMS = {
    name: re.compile(form, re.I | re.A)
    for names, form in (
        ("accept content-type", rf"(?:{_TOKENS}(?:, ?)?)+"),
        ("accept-encoding connection content-encoding te transfer-encoding upgrade expect cache-control pragma", _LISTED),
        ("sec-websocket-extensions", _LISTED),
        ("accept-language", r"(?:[a-z*]{1,3}(?:-[a-z0-9]{2,8})*(?:;q=[\d.]{1,5})?(?:, ?)?)+"),
        ("content-length sec-websocket-version max-forwards", r"\d{1,19}"),
        ("date if-modified-since if-unmodified-since", _DAY),
        ("origin referer http-referer", _ORIGIN),
        ("sec-websocket-key", r"[A-Za-z0-9+/]{22}=="),
        ("traceparent", r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        ("sentry-trace", r"[0-9a-f]{32}-[0-9a-f]{16}(?:-[01])?"),
        ("x-amz-date", r"\d{8}T\d{6}Z"),
        ("tracestate", r"(?:[a-z0-9@_\-]{1,64}=[0-9a-f:\-]{1,64}(?:, ?)?)+"),
        ("x-goog-user-project", r"[a-z0-9\-:.]*\d[a-z0-9\-:.]*"),
        ("amz-sdk-request", r"attempt=\d{1,4}(?:; max=\d{1,4})?"),
        ("openai-organization openai-project", r"(?:org|proj)[-_][a-z0-9]{1,64}"),
        ("if-none-match", r'(?:W/)?"[0-9a-f\-]{1,64}"'),
    )
    for name in names.split()
}
# Any header may hold one of these: a number that means nothing beyond its call.
_NUMBER = re.compile(
    r"[a-z\-_]{0,32}[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.I
)
# What libraries say of themselves: products with a version, and these words.
_PRODUCTS = re.compile(r"user-agent|x-stainless-[a-z\-]+|x-goog-api-client|x-amz-user-agent|anthropic-(?:version|beta)|openai-beta|x-app")
_WORD = re.compile(r"[\w.\-/+#:~*=]+")
_WORDS = frozenset(
    re.findall(
        r"\S+",
        """linux darwin macos mac os x windows nt win64 x11 ubuntu debian fedora freebsd android iphone ios unix posix other unknown
    x86_64 amd64 x64 arm64 aarch64 i686 wow64 intel cpython pypy python node deno bun js go-http-client java ruby rust php dotnet
    curl wget ollama axios undici node-fetch okhttp cli external sdk sdk-cli sdk-py sdk-ts vscode claude-vscode compatible like gecko khtml
    mozilla true false async sync stream none auto legacy standard adaptive u""",
    )
)


def parts(head: Head) -> list[Part]:
    """The target as a server may read it, and every header but Host and the length of the body."""
    target = [Part(text, Trust.ALL) for text in dict.fromkeys((unquote_plus(head.path), unquote(head.path)))]
    return [*target, *_headers(head)]


def parts_of_call(head: Head) -> list[Part]:
    """The same of a call of a model, whose path is one that an API has: what varies in it are names of models and projects."""
    path, _, query = head.path.partition("?")
    found = [Part(text, _trust_in_segment(text)) for segment in path.split("/") if (text := unquote(segment))]
    for each in filter(None, query.split("&")):
        name, _, value = each.partition("=")
        key = name.lower() == "key"  # as Google's clients send it
        text = unquote_plus(value if key else each)
        found.append(Part(text, _trust_in_credential(name, text) if key else _trust_in_segment(unquote_plus(value))))
    return [*found, *_headers(head)]


def _headers(head: Head) -> Iterator[Part]:
    for number, (name, value) in enumerate(head.headers):
        if name == "host" or (name == "content-length" and value.isdigit()):
            continue  # the one was compared with the connection's, the other with the body: another text in each call would be read anew
        value = spelt(value)
        if name in CREDENTIALS:
            yield Part(value, _trust_in_credential(name, value), number)
        else:
            yield Part(f"{name}: {value}", _trust_in_header(name, value.strip()), number)


def spelt(value: str) -> str:
    """A header as its sender meant it: octets that are UTF-8 are read as that."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def redacted_headers(head: Head, made: Mapping[int, str | None]) -> tuple[tuple[str, str], ...]:
    """What goes out of the headers: these as they are given here, None for one that goes as a whole; the rest as they came. Those that are
    of one connection alone are of no other.
    """
    kept = [(name, value) for number, (name, value) in enumerate(head.headers) if number not in made]
    kept += [(head.headers[number][0], text.encode().decode("latin-1")) for number, text in made.items() if text is not None]
    return tuple((name, value) for name, value in kept if name not in _OF_THE_HOP)


def _trust_in_header(name: str, value: str) -> Trust:
    if _NUMBER.fullmatch(value):
        return Trust.SECRET
    if not value or ((form := _FORMS.get(name)) is not None and form.fullmatch(value)):
        return Trust.FORMED
    return Trust.FORMED if _PRODUCTS.fullmatch(name) and _of_products(value) else Trust.ALL


def _of_products(value: str) -> bool:
    """Each word has a digit in it, or is one that is known. Words that stand beside a number are not: `MRN 84739201` has none that is."""
    words = _WORD.findall(value)
    return len(value) <= 512 and value.isascii() and all(word.lower() in _WORDS or _versioned(word) for word in words)


def _versioned(word: str) -> bool:
    return any(character.isdigit() for character in word) and (not word.isdigit() or len(word) < 4)


def _trust_in_credential(name: str, value: str) -> Trust:
    form = _COOKIE if name == "cookie" else _CREDENTIAL
    return Trust.SECRET if form.fullmatch(value) and not _SPOKEN.fullmatch(value) else Trust.SPOKEN


_SLUG = re.compile(r"[\w.:@+~\-/]+", re.A)


def _trust_in_segment(text: str) -> Trust:
    """Names of models and of projects have no spaces, and a digit or only one word."""
    named = _SLUG.fullmatch(text) and (any(map(str.isdigit, text)) or not re.search(r"[A-Z]?[a-z]+[._\-][A-Z]?[a-z]+\Z", text))
    return Trust.FORMED if named else Trust.ALL


def formed(of_head: Sequence[Part]) -> list[int]:
    """Of which parts nothing counts that the model could find: it need not read them."""
    return [number for number, part in enumerate(of_head) if part.trust in (Trust.FORMED, Trust.SECRET)]


def apart(of_head: Sequence[Part]) -> list[int]:
    """Which parts are read with no other. The end of one key and the beginning of the next header are no third credential."""
    return [number for number, part in enumerate(of_head) if part.trust is Trust.SECRET]


def counting(of_head: Sequence[Part], findings: Sequence[Sequence[Finding]]) -> list[list[Finding]]:
    """Of each part, what counts."""
    return [[each for each in found if part.counts(each)] for part, found in zip(of_head, findings, strict=True)]


def of_target(of_head: Sequence[Part], findings: Sequence[Sequence[Finding]]) -> tuple[str, ...]:
    """What was found in the target."""
    pairs = zip(of_head, findings, strict=True)
    return tuple(dict.fromkeys(part.text[each.start : each.end] for part, found in pairs if part.header is None for each in found))
