"""Slack and Discord as far as their client libraries can tell: the Web and REST APIs, Socket Mode, and Discord's gateway.

Written after what the services document. Each answers *every* call with success: only a policy refuses anything here. Each moves its client
to another gateway half-way, as the real ones do several times a day, and keeps all that it saw.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from framework.web import Http
from framework.websocket import Upgraded

Json = dict[str, Any]

SLACK, SLACK_PRIMARY, SLACK_BACKUP = "slack.com", "wss-primary.slack.com", "wss-backup.slack.com"
DISCORD, DISCORD_GATEWAY, DISCORD_RESUME = "discord.com", "gateway.discord.gg", "gateway-us-east1-b.discord.gg"

CHANNEL, GUILD, BOT, PERSON = "2001", "3001", "1001", "1002"
QUESTIONS = ("first question", "second question")


@dataclass(slots=True)
class Link:
    """One WebSocket: where it was opened, what the client said over it, and how it ended. deflated: with permessage-deflate."""

    host: str
    target: str
    said: list[Json] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    deflated: bool = False
    code: int | None = None


@dataclass(slots=True)
class Seen:
    """What one service saw, in the order in which it came. calls: method and path. posted: the messages."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    posted: list[Json] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def clear(self) -> None:
        for seen in (self.calls, self.posted, self.links):
            seen.clear()


class _Service(Http):
    """Calls and WebSockets, told apart by the upgrade they ask for."""

    seen: Seen

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._open()
        else:
            self._call(self.body())

    def do_POST(self) -> None:
        self._call(self.body())

    do_PATCH = do_PUT = do_DELETE = do_POST

    @property
    def host(self) -> str:
        return self.headers["Host"].partition(":")[0]

    def _open(self) -> None:
        upgraded = Upgraded(self, deflate=True)
        link = Link(self.host, self.path, pongs=upgraded.pongs, deflated=upgraded.deflated)
        self.seen.links.append(link)
        try:
            self.talk(upgraded, link)
        finally:
            link.code = upgraded.code

    def _call(self, body: bytes) -> None:
        url = urlsplit(self.path)
        self.seen.calls.append((self.command, url.path))
        self.answer(json.dumps(self.reply(url.path, body)).encode())

    def reply(self, path: str, body: bytes) -> Json:
        raise NotImplementedError

    def talk(self, upgraded: Upgraded, link: Link) -> None:
        raise NotImplementedError


def slack(seen: Seen) -> type[Http]:
    """One gateway sends the first question, asks the client to come to the other one, and that sends the second."""

    class Slack(_Service):
        def reply(self, path: str, body: bytes) -> Json:
            match path:
                case "/api/auth.test":
                    return {
                        "ok": True,
                        "url": f"https://{SLACK}/",
                        "team": "T",
                        "team_id": "T1",
                        "user": "bot",
                        "user_id": "U1",
                        "bot_id": "B1",
                    }
                case "/api/apps.connections.open":
                    host = SLACK_BACKUP if self.seen.links else SLACK_PRIMARY
                    return {"ok": True, "url": f"wss://{host}/link/?ticket=12348&app_id=A1"}
                case "/api/chat.postMessage":
                    is_json = "json" in self.headers.get("Content-Type", "")
                    self.seen.posted.append(json.loads(body) if is_json else dict(parse_qsl(body.decode())))
                    return {"ok": True, "channel": "C1", "ts": "1700000000.000100", "message": {}}
            return {"ok": True}

        def talk(self, upgraded: Upgraded, link: Link) -> None:
            first = link.host == SLACK_PRIMARY
            upgraded.send(
                json.dumps({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}, "debug_info": {"host": "h"}})
            )
            upgraded.ping(b"are you there")
            event = {"type": "app_mention", "channel": "C1", "user": "U2", "text": QUESTIONS[0 if first else 1], "ts": "1700000000.000001"}
            envelope = {"envelope_id": "E1" if first else "E2", "type": "events_api", "accepts_response_payload": False}
            upgraded.send(json.dumps(envelope | {"payload": {"type": "event_callback", "event_id": "Ev1", "event": event}}))
            for message in upgraded.messages():
                link.said.append(json.loads(message))
                if first:
                    upgraded.send(json.dumps({"type": "disconnect", "reason": "refresh_requested", "debug_info": {"host": "h"}}))

    Slack.seen = seen
    return Slack


def discord(seen: Seen) -> type[Http]:
    """The gateway sends the first question and, once it is answered, asks for a reconnect; where the client resumes waits the second."""
    numbers = itertools.count(9001)

    since = "2026-01-01T00:00:00.000000+00:00"

    def user(number: str, *, bot: bool = False) -> Json:
        return {"id": number, "username": f"user-{number}", "discriminator": "0", "avatar": None, "global_name": None, "bot": bot}

    def member(number: str, *, bot: bool = False) -> Json:
        return {"user": user(number, bot=bot), "roles": [], "joined_at": since, "deaf": False, "mute": False, "flags": 0}

    def message(author: Json, content: str) -> Json:
        given = {"id": str(next(numbers)), "channel_id": CHANNEL, "author": author, "content": content}
        flags = {"tts": False, "mention_everyone": False, "pinned": False, "type": 0}
        lists: Json = {"mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "components": []}
        return given | flags | lists | {"timestamp": since, "edited_timestamp": None}

    everyone = {
        "id": GUILD,
        "name": "@everyone",
        "permissions": "8",
        "position": 0,
        "flags": 0,
        "color": 0,
        "hoist": False,
        "managed": False,
    }
    everyone |= {"mentionable": False, "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}}
    channel = {"id": CHANNEL, "guild_id": GUILD, "type": 0, "name": "general", "position": 0, "nsfw": False, "rate_limit_per_user": 0}
    channel |= dict.fromkeys(("topic", "parent_id", "last_message_id")) | {"permission_overwrites": []}
    guild: Json = {"id": GUILD, "name": "guild", "owner_id": PERSON, "member_count": 2, "preferred_locale": "en-US", "joined_at": since}
    guild |= {"roles": [everyone], "channels": [channel], "members": [member(BOT, bot=True), member(PERSON)]}
    lists = "features emojis stickers threads voice_states presences stage_instances guild_scheduled_events soundboard_sounds"
    levels = (
        "verification_level default_message_notifications explicit_content_filter mfa_level nsfw_level premium_tier system_channel_flags"
    )
    guild |= {name: [] for name in lists.split()} | dict.fromkeys(levels.split(), 0) | {"large": False, "unavailable": False}

    class Discord(_Service):
        def reply(self, path: str, body: bytes) -> Json:
            match path.removeprefix("/api/v10").split("/")[1:]:
                case ["users", "@me"]:
                    return user(BOT, bot=True)
                case ["oauth2", "applications", "@me"]:
                    owner = {"owner": user(PERSON), "bot_public": False, "bot_require_code_grant": False}
                    return {"id": BOT, "name": "bot", "description": "", "icon": None, "verify_key": "0"} | owner
                case ["gateway", "bot"]:
                    limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
                    return {"url": f"wss://{DISCORD_GATEWAY}", "shards": 1, "session_start_limit": limit}
                case ["channels", _, "messages"] if body:
                    said = json.loads(body)
                    self.seen.posted.append(said)
                    return message(user(BOT, bot=True), said["content"])
            return guild

        def talk(self, upgraded: Upgraded, link: Link) -> None:
            send = _gateway_encoding(upgraded, link.target)
            sequence = itertools.count(1)

            def dispatch(kind: str, data: Json) -> None:
                send({"op": 0, "s": next(sequence), "t": kind, "d": data})

            def ask(question: str) -> None:
                dispatch("MESSAGE_CREATE", message(user(PERSON), question) | {"guild_id": GUILD, "member": member(PERSON)})

            send({"op": 10, "s": None, "t": None, "d": {"heartbeat_interval": 400}})
            for said in _decoded(upgraded, link):
                match said["op"]:
                    case 1:  # heartbeat
                        send({"op": 11, "s": None, "t": None, "d": None})
                        if link.host == DISCORD_GATEWAY and self.seen.posted:
                            send({"op": 7, "s": None, "t": None, "d": None})
                    case 2:  # identify
                        application = {"id": BOT, "flags": 0}
                        ready = {
                            "v": 10,
                            "user": user(BOT, bot=True),
                            "session_id": "session-1",
                            "application": application,
                            "shard": [0, 1],
                        }
                        guilds = [{"id": GUILD, "unavailable": True}]
                        dispatch("READY", ready | {"guilds": guilds, "resume_gateway_url": f"wss://{DISCORD_RESUME}"})
                        dispatch("GUILD_CREATE", guild)
                        ask(QUESTIONS[0])
                    case 6:  # resume: the session goes on counting, and a client drops what it has had
                        sequence = itertools.count(said["d"]["seq"] + 1)
                        dispatch("RESUMED", {})
                        ask(QUESTIONS[1])

    Discord.seen = seen
    return Discord


def _decoded(upgraded: Upgraded, link: Link) -> Iterator[Json]:
    for message in upgraded.messages():
        link.said.append(json.loads(message))
        yield link.said[-1]


def _gateway_encoding(upgraded: Upgraded, target: str) -> Callable[[Json], None]:
    """How a client asked to be written to: JSON as text, or one zlib stream over all binary messages, flushed after each."""
    if parse_qs(urlsplit(target).query).get("compress") != ["zlib-stream"]:
        return lambda payload: upgraded.send(json.dumps(payload))
    stream = zlib.compressobj()
    return lambda payload: upgraded.send(stream.compress(json.dumps(payload).encode()) + stream.flush(zlib.Z_SYNC_FLUSH))
