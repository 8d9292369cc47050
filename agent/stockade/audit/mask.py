"""What must not be written down: credentials, and names of persons, that travel in paths, query strings and arguments.

Owns one list of shapes. Masks what is known to be a secret or to stand for a person: the id of a patient by the segment before it, a mail
address, a medical record number, a social security number. It does not guess by entropy, because package paths are full of harmless hashes
that an auditor needs. A masked path names the same kind of resource, so it stays useful; it cannot be used as the credential.
"""

from __future__ import annotations

import re

MASK = "***"

# Issued tokens, told by the prefix their issuer gave them.
_TOKEN = re.compile(
    r"(?:\b(?:gh[opsur]_|github_pat_|glpat-|sk-|sk_live_|rk_live_|xox[abeprs]-|xapp-|hf_|npm_|pypi-|dop_v1_|shpat_|SG\.|ya29\.)[\w.\-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w\-]{30,}|\beyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*)"
)
# Segments that are a credential by their place: Telegram's bots, incoming webhooks of Slack, Discord and Teams.
_SEGMENT = re.compile(
    r"(?P<telegram>/(?:file/)?bot)(?=\d+(?::|%3[aA]))[^/?#]+"
    r"|(?P<slack>/(?:services|workflows|triggers)/[A-Z][A-Z0-9]{5,}/)[^?#]+"
    r"|(?P<discord>/api(?:/v\d+)?/webhooks/\d+/)[^/?#]+"
    r"|(?P<teams>/(?:webhookb2|IncomingWebhook)/)[^?#]+"
)
_QUERY = re.compile(
    r"(?i)(?P<name>[?&;](?:[\w\-.]*(?:token|secret|passw(?:or)?d|signature|credential|api[_\-]?key|e?mail)|key|sig|auth|code|sid|jwt"
    r"|patient|subject|identifier|mrn|ssn|dob|birthdate|family|given|phone)(?::[a-z]+)?=)[^&;#]+"
)
# Who is meant, by what stands before it: FHIR's resources of persons and what hospitals' own APIs call them. Operations are kept.
_PERSON = re.compile(
    r"(?i)(?P<name>/(?:patients?|relatedpersons?|persons?|members?hips?|insured|subscribers?|mrns?|ssn|encounters?)/)"
    r"(?!(?:search|new|export|import|count|list|batch|bulk|me)(?=[/?#]|$)|[$_]|%24|\*\*\*)[^/?#]+"
)
# … and by its own form. Of a package the version stands behind an @, and the login of a Git server before it.
_MAIL = re.compile(r"(?i)(?<![\w.+\-])(?!git(?:@|%40))[\w.+\-]{1,64}(?:@|%40)[a-z](?:[a-z0-9\-]*\.)+[a-z]{2,24}(?![\w\-])")
_NUMBER = re.compile(r"(?i)(?<![\w\-])(?:\d{3}-\d{2}-\d{4}|mrn[\-_:]?\d{4,})(?![\w\-])")
_BEARER = re.compile(r"(?i)(?P<name>\b(?:bearer|basic|token)\s+)[\w.\-+/=~]{8,}")
_USERINFO = re.compile(r"(?P<name>://)[^/@\s]+@")


def mask_path(path: str) -> str:
    """The path, with credentials and persons replaced: `/bot123:abc/getMe` is `/bot***/getMe`. Takes a path with or without its query."""
    path = _SEGMENT.sub(lambda match: f"{next(part for part in match.groups() if part)}{MASK}", path)
    path = _PERSON.sub(rf"\g<name>{MASK}", path)
    if "?" in path:
        path = _QUERY.sub(rf"\g<name>{MASK}", path)
    return _plain(path)


def mask_text(text: str) -> str:
    """Free text (an argument, a detail), with bearer values, URL passwords, issued tokens and persons replaced."""
    text = _USERINFO.sub(rf"\g<name>{MASK}@", _BEARER.sub(rf"\g<name>{MASK}", text))
    return mask_path(text) if "/" in text else _plain(text)


def _plain(text: str) -> str:
    """What is known by its own form, wherever it stands."""
    text = _TOKEN.sub(MASK, text)
    if "@" in text or "%40" in text:
        text = _MAIL.sub(MASK, text)
    return _NUMBER.sub(MASK, text)
