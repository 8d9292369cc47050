"""Files of many kinds with a secret in some of their lines, made from a seed so that no file of this repository holds anything like one."""

from __future__ import annotations

import base64
import random
import string

from training.values.lists import listed

_ALNUM, _HEX = string.ascii_letters + string.digits, "0123456789abcdef"
_SECRET = "\x01"  # stands before what is a secret, \x02 behind it


class _Maker:
    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split = rng, split

    def word(self) -> str:
        return self.rng.choice(listed("words", self.split))

    def text(self, many: int, alphabet: str = _ALNUM) -> str:
        while True:
            value = "".join(self.rng.choice(alphabet) for _ in range(many))
            if any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
                return value

    def password(self) -> str:
        rng = self.rng
        return rng.choice(
            [
                self.text(rng.randint(10, 18)),
                f"{self.word().capitalize()}{rng.randint(10, 9999)}{rng.choice('!@$')}",
                f"{self.word()}-{self.word()}-{rng.randint(10, 99)}",
                self.text(12) + rng.choice("!$%") + self.text(3),
            ]
        )

    def key(self) -> str:
        rng = self.rng
        return rng.choice(
            [self.text(32, _HEX), self.text(40), self.text(24), self.text(64, _HEX), base64.b64encode(rng.randbytes(30)).decode()]
        )

    def pem(self) -> str:
        kind = self.rng.choice(["RSA ", "EC ", "", "OPENSSH "])
        lines = [base64.b64encode(self.rng.randbytes(48)).decode() for _ in range(6)]
        return "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])


# `<p>` is a password, `<k>` a key, `<pem>` a key file, `<w>` a word, `<n>` a number; what stands in « » is the secret.
_FILES = (
    "# <w> service\nDEBUG=0\nPORT=<n>\nDB_HOST=db.<w>.internal\nDB_PASS=«<p>»\nSTRIPE_SECRET=«sk_live_<k24>»\nSENTRY_ENV=prod\nAPP_KEY=«base64:<k>»\nMAIL_USER=<w>\nMAIL_PASSWORD=\"«<p>»\"\nTIMEOUT=<n>\n",
    "development:\n  adapter: mysql2\n  username: <w>\n  password: «<p>»\n  pool: 5\nproduction:\n  url: mysql2://<w>:«<p>»@db.<w>.com:3306/<w>\n  timeout: <n>\n",
    "{\n  \"name\": \"<w>-<w>\",\n  \"version\": \"1.<n>.0\",\n  \"auth\": {\"clientId\": \"<w>\", \"clientSecret\": \"«<k>»\"},\n  \"integrity\": \"sha512-<k64>\"\n}\n",
    "<?php\ndefine('DB_NAME', '<w>');\ndefine('DB_USER', '<w>');\ndefine('DB_PASSWORD', '«<p>»');\ndefine('AUTH_SALT', '«<k64>»');\n$table_prefix = 'wp_';\ndefine('WP_DEBUG', false);\n",
    "machine api.<w>.com\n  login <w>\n  password «<p>»\n",
    "db.<w>.com:5432:<w>:<w>:«<p>»\nlocalhost:5433:*:postgres:«<p>»\n",
    "//registry.<w>.com/:_authToken=«<k40>»\nalways-auth=true\nregistry=https://registry.<w>.com\n",
    "[default]\nregion = eu-west-1\naws_access_key_id = «AKIA<K16>»\naws_secret_access_key = «<k40>»\noutput = json\n",
    "cd /srv/<w>\nls -la\nmysql -u root -p«<p>» <w>\ncurl -H 'Authorization: Bearer «<k40>»' https://api.<w>.com/v1/items\nexport TOKEN=«<k>»\ngit status\nssh <w>@10.0.0.<n>\n",
    "import requests\n\nAPI_URL = 'https://<w>.com/api'\nAPI_KEY = '«<k>»'\n\ndef get_<w>(page: int = <n>):\n    return requests.get(API_URL, headers={'X-Api-Key': API_KEY})\n",
    "<configuration>\n  <connectionStrings>\n    <add name=\"<w>\" connectionString=\"Server=<w>;Database=<w>;User Id=<w>;Password=«<p>»;\" />\n  </connectionStrings>\n  <appSettings><add key=\"Timeout\" value=\"<n>\" /></appSettings>\n</configuration>\n",
    "<pem>\n",
    "<w>:«$6$<k8>$<k64>»:19<n>:0:99999:7:::\ndaemon:*:19<n>:0:99999:7:::\nnobody:!:19<n>:0:99999:7:::\n",
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: <w>\ntype: Opaque\ndata:\n  username: <b64w>\n  password: «<b64p>»\n",
    "version: 2.1\njobs:\n  build:\n    docker:\n      - image: <w>/<w>:<n>\n    environment:\n      SLACK_TOKEN: «xoxb-<d12>-<d12>-<k24>»\n      NODE_ENV: test\n      CACHE_KEY: v<n>-{{ checksum \"package.json\" }}\n",
    "const config = {\n  host: 'smtp.<w>.com',\n  port: <n>,\n  user: '<w>',\n  pass: '«<p>»',\n  jwtSecret: process.env.JWT_SECRET,\n};\nmodule.exports = config;\n",
    "<VirtualHost *:443>\n  ServerName <w>.com\n  AuthType Basic\n  AuthUserFile /etc/<w>/htpasswd\n</VirtualHost>\n# admin:«$apr1$<k8>$<k22>»\n",
    "variable \"region\" { default = \"eu-central-1\" }\nprovider \"<w>\" {\n  user     = \"<w>\"\n  password = \"«<p>»\"\n}\nresource \"<w>_bucket\" \"logs\" { name = \"<w>-<w>-<n>\" }\n",
    "spring.datasource.url=jdbc:postgresql://<w>:5432/<w>\nspring.datasource.username=<w>\nspring.datasource.password=«<p>»\nserver.port=<n>\nlogging.level.root=INFO\njwt.secret=«<k>»\n",
    "# notes\nstaging box: <w>.internal\nadmin password is «<p>»\nrestart with systemctl restart <w>\nbackup runs at 0<n>:00\n",
    "FROM node:<n>-alpine\nWORKDIR /app\nENV NPM_TOKEN=«npm_<k36>»\nCOPY package*.json ./\nRUN npm ci --omit=dev\nCMD [\"node\", \"<w>.js\"]\n",
    "package main\n\nconst (\n\tbaseURL = \"https://<w>.com\"\n\tgithubToken = \"«ghp_<k36>»\"\n\tretries = <n>\n)\n",
    "# Nothing secret is here\ntitle = \"<w>\"\nmax_tokens = <n>\npassword_policy = \"min <n> characters\"\nsecret_name = \"<w>/<w>\"\ncommit = \"<h40>\"\nuuid = \"<h8>-<h4>-4<h3>-a<h3>-<h12>\"\n",
    "lockfile\n<w>@1.<n>.0:\n  resolved \"https://registry.npmjs.org/<w>/-/<w>-1.<n>.0.tgz#<h40>\"\n  integrity sha512-<k64>==\n",
    "def reset_password(user, token):\n    if not token:\n        raise ValueError('token missing')\n    password = getpass('Password: ')\n    user.set_password(password)\n    api_key = os.environ['API_KEY']\n",
)  # fmt: skip


def files(many: int, split: str) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """That many files, each line with a secret as a span of its own."""
    maker = _Maker(random.Random(f"secrets/{split}"), split)
    return [_file(_FILES[number % len(_FILES)], maker) for number in range(many)]


def _file(form: str, maker: _Maker) -> tuple[str, list[tuple[int, int, str]]]:
    import re

    def value(slot: re.Match[str]) -> str:
        name, size = slot.group(1), int(slot.group(2) or 0)
        match name:
            case "p":
                return maker.password()
            case "k":
                return maker.text(size) if size else maker.key()
            case "K":
                return maker.text(size, string.ascii_uppercase + "234567")
            case "h":
                return maker.text(size, _HEX)
            case "d":
                return "".join(maker.rng.choice(string.digits) for _ in range(size))
            case "n":
                return str(maker.rng.randint(10, 99))
            case "w":
                return maker.word()
            case "pem":
                return _SECRET + maker.pem() + "\x02"
            case "b64p":
                return base64.b64encode(maker.password().encode()).decode()
            case _:
                return base64.b64encode(maker.word().encode()).decode()

    marked = re.sub(r"<(pem|b64p|b64w|[pkKhdnw])(\d*)>", value, form.replace("«", _SECRET).replace("»", "\x02"))
    text, spans, start = "", [], 0
    for char in marked:
        if char == _SECRET:
            start = len(text)
        elif char == "\x02":
            spans.append((start, len(text), "credential"))
        else:
            text += char
    return text, spans
