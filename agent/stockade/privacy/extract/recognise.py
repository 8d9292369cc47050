"""Which request is an inference call, by its host and its path. Pure; the body is looked at where the path alone says too little.

On a host that serves models (the table, or the policy's `endpoints`) a request is of a known schema or it is Unknown: there is no third
way for text to leave. On any other host the paths of the common schemas are recognised, for local servers and gateways have any name;
those that other services have as well count unless the body is plainly of another kind (`ordinary`).
The path is read as loosely as any server might (case, closing slash, dots, empty segments, percent encoding, whatever stands before the
version): a request wrongly taken for an inference call is classified, one that is missed is not.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Sequence
from urllib.parse import unquote

from stockade.privacy.extract.call import Api, Unknown, Unreadable
from stockade.privacy.extract.decode import decoded, encodings
from stockade.privacy.extract.hosts import HOSTS
from stockade.privacy.extract.tree import parse_bytes

_VERSION = r"/(?:v\d+[a-z0-9.]*|latest)"
_PATHS: tuple[tuple[str, Api], ...] = (
    (r"(?:/chat|/agents)/completions", Api.OPENAI_CHAT),
    (rf"{_VERSION}(?:/fim|/engines/[^/]+)?/completions", Api.OPENAI_COMPLETIONS),
    (r"/deployments/[^/]+/completions", Api.OPENAI_COMPLETIONS),
    (rf"(?:{_VERSION}|/openai|/codex|/deployments/[^/]+)/responses", Api.OPENAI_RESPONSES),
    (rf"(?:{_VERSION}(?:/engines/[^/]+)?|/openai|/deployments/[^/]+)/embeddings", Api.OPENAI_EMBEDDINGS),
    (rf"{_VERSION}(?:/chat)?/moderations", Api.OPENAI_MODERATIONS),
    (rf"{_VERSION}/messages", Api.ANTHROPIC_MESSAGES),
    (r"/publishers/anthropic/models/[^/]+:(?:stream)?rawpredict", Api.ANTHROPIC_MESSAGES),
    (rf"{_VERSION}/messages/count_tokens", Api.ANTHROPIC_COUNT_TOKENS),
    (rf"{_VERSION}/complete", Api.ANTHROPIC_COMPLETE),
    (r"/(?:models|tunedmodels|endpoints|deployments)/[^/]+:(?:stream)?generatecontent", Api.GEMINI),
    (r"/models/[^/]+:counttokens", Api.GEMINI_COUNT_TOKENS),
    (r"/models/[^/]+:(?:batch)?embedcontents?", Api.GEMINI_EMBED),
    (r"/v1internal:(?:(?:stream)?generatecontent|counttokens)", Api.GEMINI_CODE_ASSIST),
    (r"/model/.+/invoke(?:-with-response-stream)?", Api.BEDROCK_INVOKE),
    (r"/model/.+/converse(?:-stream)?", Api.BEDROCK_CONVERSE),
)
_SHARED_PATHS: tuple[tuple[str, Api], ...] = (
    # Of model servers on any host, and of other services too.
    (r"/api/chat", Api.OLLAMA_CHAT),
    (r"/api/generate", Api.OLLAMA_GENERATE),
    (r"/api/embed(?:dings)?", Api.OLLAMA_EMBED),
    (rf"{_VERSION}/rerank", Api.COHERE_RERANK),
)
_TELLING = frozenset({"model", "prompt", "messages", "query", "documents"})  # keys, case folded: Go reads them in any case
_LOCAL_PATHS: tuple[tuple[str, Api], ...] = (
    # Names so common that on a host of the internet they are more likely another thing.
    (r"/(?:de)?tokenize", Api.TOKENIZE),
    (r"/completions?", Api.OPENAI_COMPLETIONS),  # llama.cpp's server has both, without a version
    (r"/embeddings?", Api.OPENAI_EMBEDDINGS),
    (r"/(?:v\d/)?(?:rerank|score)", Api.COHERE_RERANK),
)
_ENDPOINT_PATHS: tuple[tuple[str, Api], ...] = (
    (r"/v1internal:[a-z]+", Api.GEMINI_CODE_ASSIST),
    (rf"{_VERSION}/files", Api.OPENAI_FILES),
    (rf"{_VERSION}/chat", Api.COHERE_CHAT),
    (rf"{_VERSION}/embed", Api.COHERE_EMBED),
    (rf"{_VERSION}/rerank", Api.COHERE_RERANK),
)
_NO_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_TALKS = re.compile(r"/realtime|/live|bidigeneratecontent|/listen|/ws(?:/|\Z)", re.I)  # a socket is opened by a GET
# What the providers' own clients put in a query. Anything else there is text that nobody classified.
_QUERY = re.compile(
    r"(?:(?:alt|\$alt)=(?:sse|json|json%3Benum-encoding%3Dint)|key=[\w.\-]{1,128}|(?:api-|client_)version=[\w.\-]{1,32}|beta=true|stream=(?:true|false)"
    r"|(?:limit|page_?size|page)=\d{1,6}|order=(?:asc|desc)|(?:after|before|after_id|before_id|pagetoken)=[\w=\-]{1,64}|purpose=[a-z_\-]{1,32}"
    r"|include(?:%5B%5D|\[\])?=[a-z_.*\[\]%0-9]{1,64})(?:&|\Z)",
    re.I,
)


def recognise(host: str, method: str, path: str, endpoints: Collection[str] = ()) -> Api | Unknown | None:
    """What a request is, from its head. None: no LLM endpoint, nothing for this router.

    host: a name or an address, with or without a port. path: with or without a query. endpoints: the policy's, `*.` at the front allowed.
    """
    host = _bare(host)
    path, _, query = path.partition("?")
    path = _plain(path)
    serves = is_endpoint(host, endpoints)
    api = _listed(_PATHS + (_ENDPOINT_PATHS if serves else ()) + (_SHARED_PATHS + _LOCAL_PATHS if serves or is_local(host) else ()), path)
    if api is None and not serves:
        return _shared(method, path)
    if not _known_query(query):
        return Unknown("unknown_body")
    if method.upper() in _NO_BODY:
        return Unknown("unknown_body", bodyless=_TALKS.search(path) is None)
    return api if api is not None and method.upper() == "POST" else Unknown("unknown_body")


def ordinary(
    host: str, head: tuple[str, str], headers: Sequence[tuple[str, str]], body: bytes | None, endpoints: Collection[str] = ()
) -> bool:
    """Whether a request that is an inference call by nothing but its path is plainly none: without a body, or with one that is no JSON
    object, or an object without a key that tells of a model. One that cannot be read, or that two readers may read differently, may be one.

    head: method and path. body: as it came; None for one that is too long.
    """
    method, path = head
    host, path = _bare(host), _plain(path.partition("?")[0])
    if is_endpoint(host, endpoints) or is_local(host) or _listed(_PATHS, path) is not None or _shared(method, path) is None:
        return False
    if body is None:
        return False
    try:
        plain = decoded(body, encodings(headers))
        found = parse_bytes(plain)
    except Unreadable as problem:
        # Servers take what follows the object, and what Python calls no JSON, as they like: what begins as an object may be one.
        return problem.why == "not_json" and not plain.lstrip(b"\xef\xbb\xbf \t\r\n\f\v").startswith(b"{")
    return not isinstance(found, dict) or not any(key.casefold() in _TELLING for key in found)


def leaves_nothing(found: Unknown, headers: Sequence[tuple[str, str]], body: bytes) -> bool:
    """Whether such a request carries no text but its head: a listing, a look at a model, a deletion; and opens no socket for more."""
    return found.bodyless and not body and not any(name.lower() == "upgrade" or (name == ":protocol") for name, _ in headers)


def is_endpoint(host: str, endpoints: Collection[str] = ()) -> bool:
    """Whether the host is known to serve models. It may have a port."""
    host = _bare(host)
    return any(_host_pattern(each).fullmatch(host) for each in HOSTS) or any(
        _host_pattern(_bare(each)).fullmatch(host) for each in endpoints
    )


def is_local(host: str) -> bool:
    """Whether a host is of this machine or its network: an address that is not of the internet, or a name that its DNS does not have."""
    host = _bare(host)
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".home.arpa", ".test", ".svc", ".intranet"))


def _shared(method: str, path: str) -> Api | None:
    """The call that a path is on any host. All of these are posted: what is asked for there by other methods is another service's."""
    return _listed(_SHARED_PATHS, path) if method.upper() == "POST" else None


def _listed(table: Sequence[tuple[str, Api]], path: str) -> Api | None:
    return next((api for pattern, api in table if _compiled(pattern).search(path)), None)


def _bare(host: str) -> str:
    """Without port, brackets, closing dot; in lower case."""
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    return host.lower().rstrip(".")


def _plain(path: str) -> str:
    """The loosest reading: decoded as often as it can be, case folded; parameters, dots, empty segments and a closing slash gone."""
    for _ in range(4):
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    kept: list[str] = []
    for segment in path.replace("\\", "/").casefold().split("/"):
        name = segment.partition(";")[0].strip()
        if name == ".." and kept:
            kept.pop()
        elif name not in ("", ".", ".."):
            kept.append(name.rstrip("."))
    return "/" + "/".join(kept)


def _known_query(query: str) -> bool:
    at = 0
    while at < len(query):
        if not (match := _QUERY.match(query, at)):
            return False
        at = match.end()
    return True


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern})\\Z")


@functools.lru_cache(1024)
def _host_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", r"[a-z0-9\-_.]+"))
