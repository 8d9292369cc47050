"""Codes of what can be wrong with a settings file, beside those it shares with policies (docs/policy-errors.md)."""

from __future__ import annotations

from stockade.policy.format.codes import CODES, Code, Severity
from stockade.policy.format.document import Findings, Place
from stockade.policy.format.problems import Problem

OWN = {
    "not_private": Code("somebody else than root could have written the file", "a file of mode 0666", "chown root FILE; chmod go-w FILE"),
    "bad_duration": Code("no length of time", "age: 1w", "500ms, 10s, 5m, 12h, 30d"),
    "bad_address": Code("no host and port", "address: siem", "siem.example.com:6514, 127.0.0.1:514, [::1]:514"),
    "bad_secret": Code("no place of a secret", "token: hunter2", "file:/etc/stockade/token, env:NAME"),
    "bad_header": Code("no header of HTTP", 'headers: {"X Y": z}', "letters, digits and `-`"),
    "secret_in_clear": Code(
        "a header that carries a secret states it, for everyone who reads the file",
        "headers: {Authorization: Bearer abc}",
        "file:/etc/stockade/token, env:NAME",
    ),
    "not_of_type": Code("a key that a sink of this type, or a product, has no use for", "type: stdout, and url: …", "the sink without it"),
    "needs_key": Code("a sink of this type, or a product, cannot do without a key", "type: http, without url", "url: https://…"),
    "bad_listen": Code("no address and port to listen at", "listen: metrics", "127.0.0.1:9464, [::1]:9464, 127.0.0.1:0"),
    "two_keys": Code("the key of the CA is said to be in two places", "ca: {key: …, pkcs11: …}", "one of them"),
    "bad_certificate_name": Code("nothing that a certificate can be for", "names: [https://example.com/]", "example.com, 10.1.2.0/24, *"),
    "too_short": Code("a length of time that is too short to be of use", "life: 1s", "at least 10s"),
    "same_name": Code("two sinks of one name: records and metrics tell them apart by it", "two sinks of type http", "name: second"),
}
ALL = CODES | OWN


class SettingsFindings(Findings):
    """Problems of a settings file."""

    def add(self, place: Place, code: str, message: str, *, accepted: str = "", severity: Severity = "error") -> None:
        assert code in ALL and severity in ALL[code].severities, f"{severity} {code} does not stand in codes.py"
        self.problems.append(Problem(place.path, place.line, place.column, code, message, accepted, severity, place.source))
