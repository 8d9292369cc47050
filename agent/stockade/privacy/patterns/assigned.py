"""Credentials known by the name they are given to: `key = value` in every notation of files, code, logs and shells, and in sentences.

A value is taken where it can be one: a reference (`${TOKEN}`, os.environ["X"], get_password()), a placeholder (`<your key>`, `xxxx`) and
a type (`password: str`) are none. A default such as `changeme` is one: it opens the door as well as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stockade.privacy.finding import Finding
from stockade.privacy.patterns.checks import base64_text
from stockade.privacy.patterns.subject import Subject, compiled
from stockade.privacy.patterns.vendors import entropy

_WORDS = (
    r"pass(?:wor[dt]|wd|phrase|code)?s?|passwort|kennwort|contrase(?:ñ|n)a|mot[ _-]de[ _-]passe|pwd|psw|pw|secrets?|tokens?|"
    r"api[ _.\-]?keys?|apikeys?|api[ _.\-]?secret|access[ _.\-]?keys?(?:[ _.\-]?id)?|auth(?:[ _.\-]?(?:key|token|string|secret))?|"
    r"authtoken|"
    r"credentials?|creds?|private[ _.\-]?keys?|client[ _.\-]?(?:secret|key)|app[ _.\-]?(?:secret|key)|consumer[ _.\-]?(?:key|secret)|"
    r"(?:secure|logged[ _]in|nonce)[ _]key|(?:secret|secure|auth|logged_in|nonce)[ _]salt|salt|"
    r"sign(?:ing|ature)[ _.\-]?(?:key|secret)|encryption[ _.\-]?key|encrypt(?:ed)?[ _.\-]?(?:password|username|key)|encryptedusername|"
    r"master[ _.\-]?key|account[ _.\-]?key|storage[ _.\-]?key|shared[ _.\-]?key|service[ _.\-]?key|license[ _.\-]?key|"
    r"secret[ _.\-]?key(?:[ _.\-]?base)?|session[ _.\-]?(?:key|secret|id|token)|cookie[ _.\-]?secret|jwt(?:[ _.\-]?(?:key|secret))?|psk|"
    r"pre[ _-]?shared[ _-]?key|webhook[ _.\-]?(?:secret|url)|bearer|pin(?:[ _-]?code)?|otp(?:[ _-]?secret)?|recovery[ _-]?(?:code|key)|"
    r"seed[ _-]?phrase|mnemonic|"
    r"requirepass|masterauth|community(?:[ _-]string)?|connection[ _.\-]?string|sas[ _.\-]?(?:key|token)|write[ _.\-]?key|"
    r"deploy[ _.\-]?key|user[ _.\-]?key|identity[ _.\-]?token|sessionid|sid"
)
_KEY = rf"[a-z0-9_.\-]{{0,40}}?(?:{_WORDS})[0-9]{{0,3}}(?:[_.\-][a-z0-9]{{1,16}}){{0,2}}"
_QUOTED = r'"(?:[^"\\\n]|\\.){1,250}"|\'(?:[^\'\\\n]|\\.){1,250}\'|`[^`\n]{1,250}`'
_BARE = r"[^\s\"'`,;<>(){}\[\]][^\s\"'`<>]{0,250}"

# Each: name, expression with the key in group 1 and the value in group 2.
_FORMS = tuple(
    (name, compiled(expression))
    for name, expression in (
        ("assigned",
            rf"(?i)(?:^|[^a-z0-9_.\-])[\"'`\[$:@]{{0,3}}({_KEY})[\"'`\]]{{0,2}}(?:\[[a-z0-9_\"']{{0,20}}\])?[ \t]{{0,20}}(?::=|=>|==?|:|"
            rf"\|\|)[ \t]{{0,20}}([bruf@]{{0,2}}(?:{_QUOTED})|{_BARE})"),
        ("call", rf"(?i)[(,]\s{{0,4}}[\"']({_KEY})[\"']\s{{0,4}},\s{{0,4}}({_QUOTED})"),
        ("element",
            rf"(?i)<(?:[a-z0-9]+:)?({_KEY})(?:\s[^<>]{{0,120}})?>\s{{0,8}}(?:<!\[CDATA\[)?([^<>\s][^<>\n]{{0,250}}?)(?:\]\]>)?\s{{0,8}}</"),
        ("named",
            rf"(?i)(?:name|key|id|property|n)=[\"'](?:[a-z0-9_.\- ]{{0,40}}?)({_KEY})[\"'][^<>\n]{{0,120}}?\b(?:value|v|val|default|"
            rf"content)=({_QUOTED})"),
        ("named-text",
            rf"(?i)<[a-z]{{1,20}}\s[^<>]{{0,40}}(?:name|key|id)=[\"'](?:[a-z0-9_.\- ]{{0,40}}?)({_KEY})"
            rf"[\"'][^<>]{{0,80}}>([^<>\s][^<>\n]{{0,250}}?)</"),
        ("named-json", rf"(?i)\"(?:name|key)\"\s{{0,4}}:\s{{0,4}}\"({_KEY})\"\s{{0,4}},\s{{0,40}}\"value\"\s{{0,4}}:\s{{0,4}}({_QUOTED})"),
        ("named-yaml", rf"(?i)\bname:\s{{0,4}}[\"']?({_KEY})[\"']?\s{{1,40}}value:\s{{0,4}}({_QUOTED}|{_BARE})"),
        ("option", rf"(?i)(?:^|\s)--?({_KEY})[ =]({_QUOTED}|[^\s\"'-][^\s\"']{{0,250}})"),
        ("directive",
            r"(?m)^[ \t]{0,12}(?:set |export |default[ \t]{1,8})?(password|passwd|pass|secret|requirepass|masterauth|rootpw|"
            r"login[ \t]{1,8}\S{1,80}[ \t]{1,8}password|machine[ \t]{1,8}\S{1,80}[ \t]{1,8}login[ \t]{1,8}\S{1,80}[ \t]{1,8}password|"
            r"account[ \t]+\S{1,80}[ \t]+password|enable (?:secret|password)(?: [0-9])?|username \S{1,40} (?:password|secret)(?: [0-9])?|"
            r"snmp-server community)[ \t]{1,8}(\"[^\"\n]{1,200}\"|[^\s=:\"'][^\s]{0,200})[ \t]*\r?$"),
        ("netrc", r"(?i)\b(?:machine[ \t]+\S{1,120}|default)\s+login\s+\S{1,120}\s+(password)\s+(\S{1,200})"),
        ("sql", r"(?i)\b(identified by(?: password)?|with (?:encrypted )?password|password)\s{1,4}('(?:[^'\\\n]|\\.){1,200}')"),
        ("sshpass", r"(?i)\b(sshpass)\s+-p\s{0,2}('[^'\n]{1,100}'|\"[^\"\n]{1,100}\"|[^\s'\"]{2,100})"),
        ("client",
            r"(?i)\b(mysql(?:dump|admin)?|mariadb|mongo(?:sh|dump)?|redis-cli|ldapsearch|smbclient)\s[^\n]{0,160}?\s-(?:p|a|"
            r"w)\s?('[^'\n]{1,100}'|\"[^\"\n]{1,100}\"|[^\s'\"\-/][^\s'\"]{2,100})"),
        ("curl", r"(?i)\b(curl|wget|http)\s[^\n]{0,200}?\s(?:-u|--user)[ =]?['\"]?[^\s:'\"]{1,80}:([^\s'\"@]{2,120})"),
        ("header",
            r"(?i)\b(authorization|proxy-authorization|x-api-key|x-auth-token|private-token|cookie|"
            r"set-cookie)[\"']?\s{0,2}[:=,]\s{0,2}[\"']?(?:(?:bearer|basic|token|apikey|digest|bot|session(?:id)?=|"
            r"sid=)\s{0,2})?([a-z0-9._~+/=|\-]{8,})"),
        ("bearer", r"(?i)\b(bearer)\s([a-z0-9._~+/\-]{16,}={0,2})"),
    )
)  # fmt: skip

_PROSE = compiled(
    r"(?i)\b((?:pass(?:word|code|phrase|wd)|passwort|kennwort|pwd|pin(?: code| number)?|secret(?: key)?|api[ -]?key|access (?:key|code|"
    r"token)|auth(?:entication)? (?:code|token)|token|credentials?|one[- ]time code|otp|verification code|security answer)s?"
    r"(?: (?:for|to|of|on|at) [^\n:=\"'.]{1,40}?)?(?:,? (?:is|was|are|will be|should be|set to|changed to|reset to|to be|now|ist|lautet|"
    r"est|es)){1,2}:? {0,2})"
    r"(\"[^\"\n]{2,120}\"|'[^'\n]{2,120}'|`[^`\n]{2,120}`|[^\s\"'`,;]{4,200})"
)
_PAIR = compiled(
    r"(?im)(?:user(?:name)?|login|credentials?|creds?|log ?in (?:with|as|using))[ :=]{1,3}[\"'`]?[a-z0-9._@\-]{2,60}[\"'`]?\s{0,2}(/|"
    r"and password|, ?password|:|\|)\s{0,2}[\"'`]?([^\s\"'`,/]{5,100})"
)

_REFERENCE = re.compile(
    r"""(?ix)^(?:
    \$.* (?<!\$[a-z0-9]{22}) | %[\w.]+% | @[A-Z_]+@ | \{\{.* | \{[^{}]*\} | <[^<>]*>? | \#\{.* | .*\$\{.* | .*\$\(.* | .*<%.* |
    !.{0,6}(?:ref|vault|secret|env|sub|getatt|join).* | &[a-z]\w* | \*[a-z]\w* |
    (?:os|process|sys|self|this|cls|args?|opts?|options|config|conf|cfg|settings?|env|environ|params?|request|req|res|response|ctx|
    context|data|props|state|secrets|vars?|local|var|module|import|aws|azurerm|google|random\w*|kwargs|user|row|event|body|form|input|
    viper|vault)[.\[(].* |
    (?:get|fetch|load|read|make|build|create|generate|decrypt|encrypt|hash|getpass|prompt|input|lookup|str|string|bytes|int|new|await|
    async|func(?:tion)?|lambda|def|return|var|let|const|null|vault|ssm|arn|env|file|secretref|keychain|pass|sops|op)\b[\s.:(/_].* |
    [a-z_][\w.]*\(.* | [a-z_]\w*\[.* | (?:env|file|vault|ssm|op|arn|keychain|secretsmanager|gcp|aws)[:/]{1,3}.* |
    /(?:etc|run|var|home|usr|opt|tmp|root|secrets?|mnt|app|data)/.* |
    ~?/?[\w.\-]+/[\w./\-]+\.(?:key|pem|crt|txt|json|ya?ml|py|env|p12|jks|pub|html?) |
    [\w\-]+\.(?:pem|key|crt|p12|jks|txt|json|ya?ml|py|js|ts|env|html?)
    )$"""
)
_EMPTY = re.compile(
    r"""(?ix)^(?:
    x{3,}.*|\*{2,}.*|\.{2,}|…+|-{2,}|_{2,}|\?{2,}|\#{2,}|0+|n/?a|none|null|nil|undefined|true|false|yes|no|on|off|empty|unset|blank|
    optional|required|disabled?|enabled?|any|all|default|auto|never|always|
    str(?:ing)?|bytes?|int(?:eger)?|bool(?:ean)?|text|varchar.*|char.*|object|array|number|float|type|option(?:al)?\[?.*|union.*|list.*|
    dict.*|any|void|secretstr|password|passwd|pass|pwd|secret|token|key|apikey|api_key|value|username|user|
    (?:your|my|the|some|an?|insert|enter|put|add|replace|change|set|use|paste|generate|choose|type)[ _\-](?!me$).*|yourp.*|
    your(?:password|secret|token|key|api).*|.*(?:placeholder|redacted|masked|censored|_here|-here|example\.|<.*>|not[ _-]?set|todo|
    fixme|dummy|_goes_).*|
    \[.*\]|\(.*\)|\{.*\}|%[sdrv]|%\(.*|:[a-z_]+|\?|\\\w?|md5|sha-?\d*|plain(?:text)?|bcrypt|hashed|base64|basic|bearer|digest|oauth2?|
    jwt|ask|prompt|file|env|system|internal|local|header|cookie|query|files|compat|sss|systemd|winbind|ldap|invalid|incorrect|missing|
    wrong|expired|must|should|will|cannot|can|is|in|and|or|not|for|to|with|from|of
    )$"""
)
_VERSION = re.compile(r"^(?:[\^~<>=v]{0,2}[0-9]+(?:\.[0-9]+){1,3}(?:-[a-z0-9.]+)?|#[0-9a-fA-F]{3,8})$")
_CODE_NAME = re.compile(r"^[A-Za-z_][A-Za-z_]*(?:[.](?:[A-Za-z_]\w*))*$")
_CODE = re.compile(
    r"(?m)^\s*(?:import \w|from \w[\w.]* import |def \w+\(|class \w+|function \w*\(|(?:const|let|var) \w+ ?=|#include|package \w|"
    r"use \w+(?:::|\\)|fn \w|func \w|public |private |return\b|if ?\(|for ?\(|<\?php|static |struct )|[;{]\s*$|=> ?\{|\) ?\{|->\w+\("
)
_LITERAL = re.compile(r"(?i)[bruf@]{1,2}(?=[\"'`])")  # of a string in a program: b"…", @"…"
_NOT_SECRET_KEY = re.compile(
    r"(?ix)(?:(?:^|[_.\-])(?:public|author|authors|passenger|passive|compass|bypass|passed|passing|passes|passage|assess|keyword|"
    r"tokenizer|max|min|num|n|count|length|len|size|limit|file|path|dir|url|uri|endpoint|host|type|name|field|label|hint|prompt|policy|"
    r"regex|pattern|format|expir\w*|ttl|timeout|age|days|version|enabled?|required|provider|method|scheme|mode|"
    r"encoding|algorithm|alg|strength|placeholder|error|message|attempts|reset|change|updated?|created|at|last|ref|secretname|header|"
    r"command|cmd|class|id_field|column|usage|index|bytes|budget|rate|price|cost|start|end|pos|first|next|prev\w*|kind|list|text|class|"
    r"string_?length)$)"
    r"|^(?:author|passenger|passive|compass|bypass|surpass|.*keyword|tokeni[sz]e.*|.*tokens|pad_token|eos_token|bos_token|unk_token|"
    r"sep_token|cls_token|mask_token|special_token|pinned|spin|mapping|token_?type|continuation_?token|next_?token|page_?token|"
    r"csrf_?token_?name|pass_?through|.*_pass(?:es|ed)|side|inside|outside|authority|oauth|.*sids?de)$"
)
_WEAK_KEY = re.compile(
    r"(?i)^(?:sid|auth|pin|salt|token|tokens|key|pass|pw|psw|bearer|secret|secrets|community|jwt|mnemonic|session[ _.\-]?id|sessionid|"
    r"credentials?|creds?|user[ _.\-]?key|authorization|cookie|set-cookie|.*(?:pin|sid|pw|auth))$"
)

_HASHES = compiled(
    r"(\$(?:1|2[abxy]?|5|6|7|y|gy|md5|sha1|apr1|argon2(?:id|i|d)|scrypt|pbkdf2[a-z0-9\-]{0,10}|"
    r"bcrypt[a-z0-9\-]{0,10})\$[./A-Za-z0-9$=,+\-]{12,200}|"
    r"\$[PHS]\$[./A-Za-z0-9]{20,70}|\{(?:SSHA|SHA|SMD5|MD5|CRYPT|SSHA256|SSHA512|PBKDF2)[0-9]{0,3}\}[./A-Za-z0-9+=$\-]{12,200}|"
    r"(?:pbkdf2_sha(?:1|256)|bcrypt_sha256|argon2|sha1|md5|scrypt:[0-9:]{5,20}|pbkdf2:sha[0-9]{1,3}:[0-9]{1,8})\$[^\s\"',:]{20,220})"
)
_CRYPT_LINE = compiled(r"(?m)^[A-Za-z0-9_.@\-]{1,40}:([./A-Za-z0-9]{13}|[0-9a-f]{32}|\*[0-9A-F]{40})(?::[^\n]{0,200})?\r?$")
_COLON_LINE = compiled(
    r"(?m)^[a-z0-9.*_\-]{1,80}:(?:[0-9]{1,5}|\*):[^:\s\n]{1,63}:[^:\s\n]{1,63}:([^\s:\n](?:[^\s\n]{0,100}[^\s:\n])?)\r?$"
)
_URL = compiled(r"(?i)\b([a-z][a-z0-9+.\-]{1,24}://[^\s/\"'<>:@]{0,100}:[^\s\"'<>]{1,200}?@[^\s\"'<>@,;)]{2,200})")
_URL_PARAMETER = compiled(
    r"(?i)[?&;](?:password|passwd|pwd|pass|token|access_token|api_?key|apikey|key|auth|secret|client_secret|sig|signature|"
    r"x-amz-signature|sas)=([^\s&\"'<>#;]{6,500})"
)
_SQL_LINE = compiled(
    r"(?im)^\s{0,4}(?:insert\s{1,4}(?:ignore\s{1,4})?into\s[^\n]{0,80}(?:user|account|member|admin|login|auth|customer|cred|person|"
    r"people)[^\n]{0,300}|\([0-9]{1,9},\s?'[^\n]{1,300})"
)
_SQL_HASH = compiled(
    r"['\"]((?:0x|\*)?[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|\*[0-9A-F]{40}|[0-9a-fA-F]{56}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})['\"]"
)
_PEM = compiled(
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,\-\\.()@<>\"']*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: "
    r"BLOCK)?-----)"
)
_PEM_OPEN = compiled(r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,\\]{20,})")
_PUTTY = compiled(r"(?i)(Private-Lines: [0-9]{1,4}\r?\n[A-Za-z0-9+/=\r\n]+|Private-(?:MAC|Hash): [0-9a-f]{40,64})")
_JWK = compiled(r"\"(?:d|p|q|dp|dq|qi|k)\"\s{0,4}:\s{0,4}\"([A-Za-z0-9_\-]{32,1000})\"")


def find(subject: Subject) -> Iterator[Finding]:
    data, folded = subject.data, subject.folded
    if any(word in folded for word in _ANY):
        code = _CODE.search(subject.text[:20000]) is not None
        for name, regex in _FORMS:
            # The text's beginning is a line's beginning: an option may stand there.
            if name in _NEEDS and not any(word in b"\n" + folded[:1] or word in folded for word in _NEEDS[name]):
                continue
            for start, end, match in subject.matches(regex, 2):
                first, last = match.span(1)
                yield from _assigned(subject, name, data[first:last].decode(errors="replace"), start, end, code)
        yield from _prose(subject)
    if b"://" in data and b"@" in data:
        for start, end, _ in subject.matches(_URL, 1):
            password = data[start:end].decode(errors="replace").split("://", 1)[1].rpartition("@")[0].partition(":")[2]
            if "/" not in password.partition("@")[0] and not _none(password) and password:
                yield subject.finding(start, end, "credential.url", "assigned:url", 0.95)
    if b"=" in data and (b"?" in data or b"&" in data or b";" in data):
        for start, end, _ in subject.matches(_URL_PARAMETER, 1):
            value = data[start:end].decode(errors="replace")
            if not _none(value) and any(c.isdigit() for c in value):
                yield subject.finding(start, end, "credential.token", "assigned:url-parameter", 0.8)
    yield from _hashes(subject)
    if b"private" in folded:
        for regex, name in ((_PEM, "pem"), (_PEM_OPEN, "pem-open"), (_PUTTY, "putty")):
            for start, end, _ in subject.matches(regex, 1):
                if name != "pem-open" or b"-----END" not in data[start + 20 : end + 40]:
                    yield subject.finding(start, end, "credential.private_key", f"assigned:{name}", 1.0)
    if b'"kty"' in data:
        for start, end, _ in subject.matches(_JWK, 1):
            yield subject.finding(start, end, "credential.private_key", "assigned:jwk", 0.95)


_ANY = tuple(
    b"pass pwd psw pw kennwort contrase secret token key auth cred salt sess cookie jwt psk pin bearer otp recovery seed mnemonic "
    b"webhook community connection sas sid identified mot login user".split()
)
_NEEDS = {
    "call": (b'",', b"',"),
    "element": (b"</",),
    "named": (b"=",),
    "named-text": (b"</",),
    "named-json": (b'"value"',),
    "named-yaml": (b"value:",),
    "option": (b" -", b"\n-"),
    "netrc": (b"machine", b"default"),
    "sql": (b"identified", b"password"),
    "sshpass": (b"sshpass",),
    "client": (b"mysql", b"mariadb", b"mongo", b"redis-cli", b"ldapsearch", b"smbclient"),
    "curl": (b"curl", b"wget", b"http "),
    "header": (b"auth", b"key", b"token", b"cookie"),
    "bearer": (b"bearer",),
}


def _assigned(subject: Subject, form: str, key: str, start: int, end: int, code: bool) -> Iterator[Finding]:
    data = subject.data
    raw = data[start:end].decode(errors="replace")
    if prefix := _LITERAL.match(raw):
        start, raw = start + prefix.end(), raw[prefix.end() :]
    quoted = raw[:1] in "\"'`" and raw[-1:] == raw[:1] and len(raw) > 1
    value = raw[1:-1] if quoted else raw
    if quoted:
        start, end = start + 1, end - 1
    elif form in ("assigned", "option", "named-yaml"):
        kept = re.split(r"(?:[,;)}\]]+:?(?:\s|$)|\\n|\\r|&amp;|&(?=\w+=)|#\s)", value)[0]
        value, end = kept, start + len(kept.encode())
    if _NOT_SECRET_KEY.search(key.replace(" ", "_")) or not _is_value(key, value, form, quoted, code):
        return
    category = _category(key, value)
    score = 0.9 if _strong(value) or quoted or form not in ("assigned", "option", "named-yaml") else 0.8
    if form in ("directive", "named-yaml", "option") and not _strong(value):
        score = 0.7
    yield subject.finding(start, end, category, f"assigned:{form}", score)


def _is_value(key: str, value: str, form: str, quoted: bool, code: bool) -> bool:
    if len(value) < 3 or (quoted and len(value) > 300 and " " in value) or _none(value):
        return False
    folded = value.lower()
    if folded == key.lower() or not any(c.isalnum() for c in value) or (value.isdigit() and len(value) < 4 and "pass" not in key.lower()):
        return False
    if "::" in value or _VERSION.match(value) or (form == "directive" and value.endswith(";")):
        return False
    if "://" in value and "@" not in value and "hook" not in value and "sig=" not in folded:
        return False
    if not quoted and form in ("assigned", "option", "named-yaml"):
        if value[0] in "(){}[]|&*,;=!?/\\" and not _strong(value):
            return False
        if code and (_CODE_NAME.match(value) or value.startswith(("&", "*", "@"))):
            return False
    if _WEAK_KEY.match(key) and form in ("assigned", "call", "option", "element"):
        if form == "element" and key.lower() in ("pass", "secret", "token", "pw"):
            return True
        if key.lower().endswith("pin") or key.lower() == "pin":
            return value.isdigit() and 4 <= len(value) <= 8
        if key.lower() in ("pass", "pw", "psw") and " " not in value:
            return quoted or (not code and not value.isalpha()) or (len(value) >= 6 and not code)
        return " " not in value and (_strong(value) or base64_pair(value))
    if " " in value.strip() and form not in ("element", "named-text"):
        words = value.split()
        if (
            "pass" not in key.lower()
            and "phrase" not in key.lower()
            and "mnemonic" not in key.lower()
            and "salt" not in key.lower()
            and "_key" not in key.lower()
            and "connection" not in key.lower()
        ):
            return False
        if len(words) > 3 and all(word.strip(".,!?:'").isalpha() for word in words) and not re.search(r"(?i)phrase|mnemonic", key):
            return False  # a sentence: a label or a message about passwords
        if len(words) <= 3 and all(word.strip(".,!?:'").isalpha() for word in words) and words[0][0].isupper():
            return False  # "Forgot Password"
    if code and quoted and value.isalpha() and value.islower() and len(value) < 5:
        return False
    if form == "header":
        return _strong(value) or base64_pair(value)
    if form == "directive" and value.isalpha() and len(value) < 5:
        return False
    if re.search(r"(?i)key|token|auth|sid|secret", key) and not re.search(r"(?i)pass|pwd", key):
        # Names stand here as often as secrets do: api_key = "primary", tokens: main.
        if re.fullmatch(r"[a-z]+(?:[_.\- ][a-z]+)*|[A-Z]+(?:_[A-Z]+)*|[A-Za-z]+(?:[A-Z][a-z]+)*", value) and len(value) < 20:
            return "secret" in key.lower() and not code and quoted is False and len(value) >= 8
        if re.fullmatch(r"[a-z][\w]*(?:\.\w+)+", value) and not re.search(r"\d{3}", value) and len(value) < 60:
            return False
    return True


def _none(value: str) -> bool:
    value = value.strip()
    if _HASHES.search(value.encode()):
        return False
    return len(set(value)) <= 1 or bool(_EMPTY.match(value)) or bool(_REFERENCE.match(value))


def _strong(value: str) -> bool:
    """Looks made by a machine or a careful person: kinds of characters mixed, and not a word of a sentence."""
    kinds = sum(
        (
            any(c.islower() for c in value),
            any(c.isupper() for c in value),
            any(c.isdigit() for c in value),
            any(not c.isalnum() for c in value),
        )
    )
    return len(value) >= 8 and kinds >= 2 and any(c.isdigit() for c in value) and entropy(value.encode()) > 2.5


def base64_pair(value: str) -> bool:
    """`user:password` in base64, as Basic authentication and Docker's file have it."""
    return len(value) >= 8 and ":" in (base64_text(value) or "")


def _category(key: str, value: str) -> str:
    folded = key.lower()
    if "://" in value and "@" in value:
        return "credential.url"
    if "PRIVATE KEY" in value:
        return "credential.private_key"
    if re.search(r"pass|pwd|psw|pw$|wort|contrase|pin|community|sshpass|curl|mysql|identified|client$|mot.de", folded):
        return "credential.password"
    if re.search(r"token|bearer|jwt|sess|cookie|authorization|^_?auth$|sid|otp", folded):
        return "credential.token"
    return "credential.key"


def _prose(subject: Subject) -> Iterator[Finding]:
    data = subject.data
    for regex, name in ((_PROSE, "sentence"), (_PAIR, "pair")):
        for start, end, _ in subject.matches(regex, 2):
            raw = data[start:end].decode(errors="replace")
            quoted = raw[0] in "\"'`"
            value = raw.strip("\"'`") if quoted else raw.rstrip(".,;:!?)")
            if quoted:
                start += 1
            end = start + len(value.encode())
            if len(value) < 4 or _none(value) or (quoted and " " in value and len(value.split()) > 6) or "://" in value:
                continue
            if quoted or (
                (any(c.isdigit() for c in value) or any(c in "!@#$%^&*" for c in value[1:])) and re.search(r"[A-Za-z0-9]", value)
            ):
                yield subject.finding(start, end, "credential.password", f"assigned:{name}", 0.8)


def _hashes(subject: Subject) -> Iterator[Finding]:
    data = subject.data
    if b"$" in data or b"{" in data:
        for start, end, _ in subject.matches(_HASHES, 1):
            yield subject.finding(start, end, "credential.password", "assigned:password-hash", 0.95)
    if b":" in data:
        for start, end, _ in subject.matches(_CRYPT_LINE, 1):
            value = data[start:end].decode()
            if len(value) > 13 or (
                any(c.isupper() for c in value) and any(c.islower() for c in value) and value[-1] in "./02468AEIMQUYcgkosw"
            ):
                yield subject.finding(start, end, "credential.password", "assigned:crypt-line", 0.75)
        for start, end, _ in subject.matches(_COLON_LINE, 1):
            if not _none(data[start:end].decode(errors="replace")):
                yield subject.finding(start, end, "credential.password", "assigned:pgpass-line", 0.85)
    if b"insert" in subject.folded:
        for start, _, _ in subject.matches(_SQL_LINE):
            stop = data.find(b"\n", start + 5)
            line = slice(start, min(stop if stop > 0 else len(data), start + 4000))
            part = Subject(data[line].decode(errors="replace"))
            for first, last, _ in part.matches(_SQL_HASH, 1):
                yield subject.finding(start + first, start + last, "credential.password", "assigned:sql-hash", 0.7)
