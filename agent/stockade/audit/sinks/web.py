"""HTTP(S): one connection that is kept, one request a batch. No redirect is followed: a credential goes where the settings say."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from stockade.audit.sinks import tls
from stockade.audit.sinks.sink import Failed, Item, Outcome, Refused
from stockade.settings.sinks import Tls

_READ = 4 << 20  # octets of an answer that are looked at
_MOST_AFTER = 600.0
_NEVER = frozenset({400, 406, 411, 413, 414, 415, 422})  # what is wrong with the request, and will be the next time


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    after: float = 0.0


class Client:
    """Not thread-safe."""

    def __init__(self, rules: Tls, timeout: float) -> None:
        """Raises StockadeError for certificates that cannot be used."""
        self._context = tls.context(rules)
        self._timeout = timeout
        self._to: tuple[str, str] | None = None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises Failed when no answer came."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fresh = self._connect(parts.scheme, parts.netloc)
        try:
            try:
                return self._ask(target, headers, body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if fresh:
                    raise
                self._connect(parts.scheme, parts.netloc, anew=True)  # it was kept too long
                return self._ask(target, headers, body)
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            self.close()
            raise Failed(f"{parts.netloc}: {error or type(error).__name__}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, scheme: str, netloc: str, *, anew: bool = False) -> bool:
        """Whether the connection is a new one."""
        if self._connection is not None and self._to == (scheme, netloc) and not anew:
            return False
        self.close()
        self._to = scheme, netloc
        if scheme == "https":
            self._connection = http.client.HTTPSConnection(netloc, timeout=self._timeout, context=self._context)
        else:
            self._connection = http.client.HTTPConnection(netloc, timeout=self._timeout)
        return True

    def _ask(self, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        assert self._connection is not None
        self._connection.request("POST", target, body, {"User-Agent": "stockade", **headers})
        response = self._connection.getresponse()
        answer = Answer(response.status, response.read(_READ), _after(response.headers.get("Retry-After", "")))
        if not response.isclosed():
            self.close()  # longer than anybody needs
        return answer


def _after(text: str) -> float:
    """Seconds, of Retry-After: a number or a date."""
    try:
        found = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, min(found, _MOST_AFTER))


@dataclass(frozen=True, slots=True)
class Post:
    """A request to send. judge: what an answer of 2xx says of the batch; None: that it arrived."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    judge: Callable[[bytes, int], Outcome] | None = None


class WebSink:
    """make: the request for a batch; may itself ask for a token, and raise Failed. forget: called when a credential was refused."""

    def __init__(self, client: Client, make: Callable[[Sequence[Item]], Post], forget: Callable[[], None] = lambda: None) -> None:
        self._client, self._make, self._forget = client, make, forget

    def send(self, batch: Sequence[Item]) -> Outcome:
        post = self._make(batch)
        answer = self._client.post(post.url, post.headers, post.body)
        if 200 <= answer.status < 300:
            return Outcome() if post.judge is None else post.judge(answer.body, len(batch))
        said = f"{urlsplit(post.url).netloc} answers {answer.status} {_printable(answer.body)}".strip()
        if answer.status in (401, 403):
            self._forget()
        if answer.status in _NEVER:
            raise Refused(said)
        raise Failed(said, answer.after)

    def close(self) -> None:
        self._client.close()


def _printable(body: bytes) -> str:
    return "".join(c if " " <= c <= "~" else " " for c in body[:200].decode("ascii", "replace"))
