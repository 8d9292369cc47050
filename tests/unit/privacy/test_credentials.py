"""Credentials in files that the rules were not written on: lines that hold a secret, lines that do not, counted.

The secrets are made when the test runs, from a fixed seed, so that no file of this repository holds anything that looks like one.
"""

from __future__ import annotations

import base64
import random
import string

import pytest

from stockade.privacy.finding import Finding
from stockade.privacy.patterns import Credentials
from stockade.privacy.patterns.canary import Canaries, digest, make
from stockade.privacy.patterns.subject import Subject

CREDENTIALS = Credentials()
_RANDOM = random.Random(20)
_ALNUM = string.ascii_letters + string.digits


def text_of(count: int, alphabet: str = _ALNUM) -> str:
    """Random, with a digit, and both cases where the alphabet has them."""
    while True:
        value = "".join(_RANDOM.choice(alphabet) for _ in range(count))
        cased = alphabet != _ALNUM or not (value.isupper() or value.islower())
        if cased and any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
            return value


_HEX = "0123456789abcdef"
_SRI = base64.b64encode(bytes(range(64))).decode()
_SSH = base64.b64encode(b"\0\0\0\x0bssh-ed25519" + bytes(range(36))).decode()
PEM = "-----BEGIN " + "RSA PRIVATE KEY-----"
PEM_END = "-----END " + "RSA PRIVATE KEY-----"

# Files: each line with a mark, True where the line holds a secret.
Sample = list[tuple[bool, str]]

FILES: dict[str, Sample] = {
    "dotenv": [
        (False, "# settings of the shop"),
        (False, "DEBUG=false"),
        (False, "PORT=8080"),
        (True, f"DB_PASSWORD={text_of(16)}"),
        (True, f"SECRET_KEY='{text_of(40)}'"),
        (True, f"export MAILER_API_KEY={text_of(32, _HEX)}"),
        (False, "LOG_LEVEL=info"),
        (True, f"DATABASE_URL=postgres://shop:{text_of(14)}@db.internal:5432/shop"),
        (False, "TOKEN_TTL=3600"),
        (False, "API_KEY="),
        (False, "AUTH_PROVIDER=ldap"),
        (False, "API_TOKEN=${API_TOKEN}"),
    ],
    "yaml": [
        (False, "version: '3'"),
        (False, "services:"),
        (False, "  db:"),
        (False, "    image: postgres:16.2"),
        (False, "    environment:"),
        (True, f"      POSTGRES_PASSWORD: {text_of(12)}"),
        (False, "      POSTGRES_USER: shop"),
        (False, "      PASSWORD_FILE: /run/secrets/db"),
        (True, f'    api_token: "{text_of(28)}"'),
        (False, "    secretName: shop-db"),
        (False, "    password: {{ .Values.password }}"),
    ],
    "python": [
        (False, "import os"),
        (False, "password = os.environ['PASSWORD']"),
        (True, f'password = "{text_of(11)}"'),
        (False, "token = get_token(user)"),
        (False, "def login(user: str, password: str) -> None:"),
        (False, "    if not password:"),
        (True, f'client = Client(api_key="{text_of(36)}")'),
        (False, "secret = secrets.token_hex(16)"),
        (False, "max_tokens = 4096"),
        (False, "tokenizer = load('gpt2')"),
        (True, f"headers = {{'Authorization': 'Bearer {text_of(40)}'}}"),
    ],
    "json": [
        (False, "{"),
        (False, '  "name": "shop",'),
        (True, f'  "client_secret": "{text_of(24)}",'),
        (False, '  "token_uri": "https://auth.test/token",'),
        (True, f'  "password": "{text_of(10)}!",'),
        (False, '  "passwordPolicy": "strict",'),
        (False, '  "integrity": "sha512-' + _SRI + '"'),
        (False, "}"),
    ],
    "ini": [
        (False, "[client]"),
        (False, "user = backup"),
        (True, f"password = {text_of(13)}"),
        (False, "host = db.internal"),
        (False, "[smtp]"),
        (True, f"smtp_pass={text_of(12)}"),
        (False, "auth = plain"),
        (False, "keyfile = /etc/ssl/private/smtp.key"),
    ],
    "xml": [
        (False, "<configuration>"),
        (False, "  <property><name>timeout</name><value>30</value></property>"),
        (True, f"  <password>{text_of(14)}</password>"),
        (True, f'  <add key="ApiKey" value="{text_of(30)}" />'),
        (False, "  <token_endpoint>https://auth.test/t</token_endpoint>"),
        (False, "</configuration>"),
    ],
    "shell": [
        (False, "#!/bin/sh"),
        (False, "set -eu"),
        (True, f"curl -u admin:{text_of(12)} https://ci.internal/build"),
        (True, f"mysql -h db -u root -p{text_of(11)} shop"),
        (True, f"sshpass -p '{text_of(12)}' ssh ops@host"),
        (False, "read -r password"),
        (False, "docker login --password-stdin"),
        (True, f"export AWS_SECRET_ACCESS_KEY={text_of(40)}"),
        (False, 'echo "$TOKEN" | login'),
    ],
    "vendors": [
        (True, "token: gh" + "p_" + text_of(36)),
        (True, "stripe: sk_" + "live_" + text_of(24)),
        (True, "slack: xo" + "xb-" + "-".join(("123456789012", "210987654321", text_of(24)))),
        (True, "gitlab: gl" + "pat-" + text_of(20)),
        (True, "google: AI" + "za" + text_of(35)),
        (True, "aws: AK" + "IA" + text_of(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")),
        (False, "npm: see the npm documentation"),
        (False, "url: https://github.test/owner/name"),
    ],
    "netrc": [
        (True, f"machine git.internal login ops password {text_of(12)}"),
        (False, "# machine files are read by curl"),
    ],
    "chat": [
        (False, "hi, I cannot log in"),
        (True, f"my password is {text_of(9)}"),
        (False, "should I change my password?"),
        (True, f"the api key is {text_of(32)}"),
        (False, "the token is expired"),
        (False, "password: required"),
        (False, "what is a good password?"),
    ],
    "pem": [(True, PEM), *[(True, text_of(64)) for _ in range(4)], (True, PEM_END), (False, ""), (False, "some other words")],
}


def risky(lines: list[str]) -> set[int]:
    """The numbers of the lines that a finding touches, read as one file."""
    text = "\n".join(lines)
    return {
        number
        for finding in CREDENTIALS.find([text])[0]
        for number in range(text.count("\n", 0, finding.start), text.count("\n", 0, finding.end - 1) + 1)
    }


@pytest.mark.parametrize("name", FILES)
def test_lines_with_a_secret_are_found_and_no_others(name: str) -> None:
    sample = FILES[name]
    found = risky([line for _, line in sample])
    missed = [line for number, (secret, line) in enumerate(sample) if secret and number not in found]
    excess = [line for number, (secret, line) in enumerate(sample) if not secret and number in found]
    assert (missed, excess) == ([], [])


HARMLESS = {
    "package": '{\n  "name": "shop",\n  "version": "1.4.2",\n  "scripts": {"build": "tsc"},\n  "dependencies": {"react": "^18.2.0"}\n}\n',
    "lock": 'name = "idna"\nversion = "3.7"\nchecksum = "' + text_of(64, _HEX) + '"\nsource = "registry"\n',
    "git": "commit " + text_of(40, _HEX) + "\nAuthor: somebody\nindex " + text_of(7, _HEX) + ".." + text_of(7, _HEX) + " 100644\n",
    "sshd": "Port 22\nPermitRootLogin no\nPasswordAuthentication no\nAuthorizedKeysFile .ssh/authorized_keys\nUsePAM yes\n",
    "nginx": "server {\n  listen 443 ssl;\n  ssl_certificate /etc/ssl/site.pem;\n  ssl_certificate_key /etc/ssl/site.key;\n}\n",
    "kubernetes": "env:\n- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: db\n      key: password\n",
    "actions": "env:\n  TOKEN: ${{ secrets.GITHUB_TOKEN }}\nsteps:\n- uses: actions/checkout@v4\n",
    "code": "def check(password: str, salt: bytes) -> bool:\n    token = request.headers.get('token')\n    return verify(password, salt)\n",
    "uuid": "id: 550e8400-e29b-41d4-a716-446655440000\nrequest_id = 6fa459ea-ee8a-3ca4-894e-db77e160355e\n",
    "public": "ssh-ed25519 " + _SSH + " me@host\n",
    "prose": "Passwords should be long. A token is a string that proves who you are. Keep your keys safe.\n",
    "placeholders": "password: <your password>\napi_key: YOUR_API_KEY\ntoken=xxxxxxxxxxxx\nsecret: changeme_here\n",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_files_without_a_secret_are_left_alone(name: str) -> None:
    text = HARMLESS[name]
    assert [text[finding.start : finding.end] for finding in CREDENTIALS.find([text])[0]] == []


def test_the_span_is_the_secret_and_not_its_name() -> None:
    secret = text_of(20)
    for line in (f"password = '{secret}'", f"API_KEY={secret}", f'"token": "{secret}"', f"--password {secret}"):
        spans = {line[finding.start : finding.end].strip("'\"") for finding in CREDENTIALS.find([line])[0]}
        assert spans == {secret}


@pytest.mark.parametrize("password", ["fluffy7kitten", "b0nsai_garden", "ur8an_fox", "rumble4stilts"])
def test_a_value_that_begins_like_the_mark_of_a_string_is_taken_whole(password: str) -> None:
    for line in (f"password: {password}", f"password = b'{password}'", f'password = @"{password}"'):
        assert {line[finding.start : finding.end] for finding in CREDENTIALS.find([line])[0]} == {password}


def test_a_canary_is_known_by_its_mark_and_named_where_it_is_registered() -> None:
    canary = make()
    other = canary[:-1] + ("a" if canary[-1] != "a" else "b")

    def named(known: Canaries, text: str) -> list[Finding]:
        return list(known.find(Subject(text)))

    (finding,) = named(Canaries({digest(canary): "payroll"}), f"x {canary.upper()} y")
    assert (finding.start, finding.end, finding.category, finding.detector) == (2, 38, "credential.canary", "canary:payroll")
    assert named(Canaries(), f"x {canary} y")[0].detector == "canary:unregistered"
    assert named(Canaries(), f"x {other} y") == []
