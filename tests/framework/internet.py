"""The tests' internet: every server, its name, its addresses and its certificates, in one namespace.

The host reaches it by address; by *name* only what runs on a Machine, whose /etc/hosts and trust store know these names and this CA.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from framework import chat, models, packages
from framework.ca import Authority, Leaf, pem
from framework.netns import Addresses, Namespace
from framework.nginx import Nginx, Site
from framework.web import Sink, Streams, Web, git_handler

# Sites that answer with what they saw. The first is the plain case; each other one differs in the one thing its name says.
ECHO = "echo.web.test"
OTHER = "other.web.test"  # in no policy: what nobody may reach
H1 = "h1.web.test"
TLS12 = "tls12.web.test"
RSA = "rsa.web.test"
LONG = "long.web.test"
MTLS = "mtls.web.test"
SLACK = ("api.slack.com", "files.slack.com")
MESSAGING = ("cdn.discordapp.com", "api.telegram.org", "graph.microsoft.com", "login.microsoftonline.com")
JIRA = ("example.atlassian.net", "api.atlassian.com")
HOSPITAL = "ehr.internal.hospital.org"
CLOUD = ("api.openai.com", "api.anthropic.com", "bedrock.us-east-1.amazonaws.com")
EU = "llm.eu.bank.example"  # a model whose operator promises to process in the EU
INSPECTED = tuple(f"i{number}.web.test" for number in range(4))
RELAYED = tuple(f"r{number}.web.test" for number in range(4))
# Servers with something to serve.
PYPI = "pypi.web.test"
NPM = "npm.web.test"
GIT = "git.web.test"
STREAM = "stream.web.test"
RAW = "raw.web.test"  # not HTTP at all: TCP and UDP
RAW_PORT = 7000
RELAY_PORT = 8080


class Internet:
    """All of it, up until close()."""

    def __init__(self, directory: Path, *, trees: Mapping[str, Path] | None = None) -> None:
        """`trees`: further names, each with the directory of files that it serves."""
        self.directory = directory
        self.namespace = Namespace()
        self.hosts: dict[str, Addresses] = {}
        roots = {"ec": Authority.root("ec"), "rsa": Authority.root("rsa")}
        self.roots = b"".join(pem(root.certificate) for root in roots.values())
        self._certificates = directory / "certificates"
        self._certificates.mkdir()
        self._below = roots["ec"].intermediate()
        client_ca = self._certificates / "client-ca.pem"
        client_root = Authority.root("ec")
        client_ca.write_bytes(pem(client_root.certificate))
        self.client = client_root.issue(self._certificates, "client.web.test", client=True)

        deep = roots["ec"]
        for _ in range(5):
            deep = deep.intermediate()
        own = {name: directory / name for name in (PYPI, NPM)}
        packages.pypi(own[PYPI])
        packages.npm(own[NPM], f"https://{NPM}")
        packages.git(directory / GIT)
        self.nginx = Nginx(
            self.namespace,
            directory,
            [
                self._site(ECHO),
                self._site(OTHER),
                self._site(H1, http2=False),
                self._site(TLS12, protocols="TLSv1.2"),
                self._site(RSA, leaf=roots["rsa"].intermediate("rsa").issue(self._certificates, RSA, kind="rsa")),
                self._site(LONG, leaf=deep.issue(self._certificates, LONG)),
                self._site(MTLS, client_ca=client_ca),
                *(self._site(name, root=root) for name, root in (own | dict(trees or {})).items()),
                *(self._site(name) for name in (*SLACK, *MESSAGING, *JIRA, HOSPITAL, *INSPECTED)),
                *(self._site(name, plain_ports=(RELAY_PORT,)) for name in RELAYED),
            ],
        )
        self.git = Web(self.namespace, self._address(GIT), self._leaf(GIT), git_handler(directory / GIT))
        self.stream = Web(self.namespace, self._address(STREAM), self._leaf(STREAM), Streams)
        self.heard: dict[str, list[models.Heard]] = {name: [] for name in (*CLOUD, EU)}
        self.cloud = {
            name: Web(self.namespace, self._address(name), self._leaf(name), models.cloud(heard)) for name, heard in self.heard.items()
        }
        self.slack, self.discord = chat.Seen(), chat.Seen()
        services = {
            chat.slack(self.slack): (chat.SLACK, chat.SLACK_PRIMARY, chat.SLACK_BACKUP),
            chat.discord(self.discord): (chat.DISCORD, chat.DISCORD_GATEWAY, chat.DISCORD_RESUME),
        }
        for handler, names in services.items():
            for name in names:
                Web(self.namespace, self._address(name), self._leaf(name), handler)
        self.raw = Sink(self.namespace, RAW, self._address(RAW), RAW_PORT)

    def _address(self, name: str) -> Addresses:
        return self.hosts.setdefault(name, self.namespace.address())

    def _leaf(self, name: str) -> Leaf:
        return self._below.issue(self._certificates, name)

    def _site(
        self,
        name: str,
        *,
        leaf: Leaf | None = None,
        http2: bool = True,
        protocols: str = "TLSv1.2 TLSv1.3",
        client_ca: Path | None = None,
        root: Path | None = None,
        plain_ports: tuple[int, ...] = (80,),
    ) -> Site:
        return Site(name, self._address(name), leaf or self._leaf(name), http2, protocols, client_ca, root, plain_ports)

    def close(self) -> None:
        self.namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
