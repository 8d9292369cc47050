"""The daemon's socket, in one process: who is taken for a member of what, and lines that are longer than a socket holds."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from stockade.daemon.front import GUESTS, Front, Json, Spoken, groups
from stockade.types import StockadeError


@pytest.mark.root
def test_all_groups_of_whoever_connects_are_known(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        child = os.fork()
        if child == 0:
            os.setgroups(range(4000, 4100))
            os.setgid(4321)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(tmp_path / "socket"))
                sock.recv(1)
            os._exit(0)
        client, _ = listener.accept()
        with client:
            assert groups(client) == {4321, *range(4000, 4100)}
        os.waitpid(child, 0)


def test_a_long_answer_arrives_whole_and_the_next_line_after_it(tmp_path: Path) -> None:
    async def long(_arguments: Json, spoken: Spoken) -> None:
        spoken.say(ok=True, answer="x" * 3_000_000)
        spoken.say(ended=7)

    async def main() -> list[Json]:
        front = Front.take(tmp_path / "run" / "daemon.sock")
        front.serve({"long": long})
        reader, writer = await asyncio.open_unix_connection(str(front.path), limit=8_000_000)
        writer.write(b'{"v": 1, "verb": "long"}\n')
        writer.write_eof()
        lines = [json.loads(await reader.readline()) for _ in range(2)]
        assert await reader.read() == b""
        writer.close()
        front.close()
        return lines

    first, second = asyncio.run(main())
    assert len(first["answer"]) == 3_000_000 and second["ended"] == 7


def test_there_is_one_daemon(tmp_path: Path) -> None:
    front = Front.take(tmp_path / "daemon.sock")
    with pytest.raises(StockadeError) as refused:
        Front.take(tmp_path / "daemon.sock")
    assert refused.value.code == "daemon_running"
    front._sock.close()  # as a kill does
    Front.take(tmp_path / "daemon.sock")._sock.close()


@pytest.mark.root
def test_guests_are_counted_and_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.daemon.front.PATIENCE", 0.5)

    async def node(_arguments: Json, spoken: Spoken) -> None:
        spoken.say(ok=True)

    async def main() -> tuple[int, bytes]:
        front = Front.take(tmp_path / "daemon.sock")
        front.path.chmod(0o666)
        tmp_path.chmod(0o755)
        for above in tmp_path.parents[:-2]:
            above.chmod(above.stat().st_mode | 0o055)
        front.serve({"node": node})
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            socks = [socket.socket(socket.AF_UNIX) for _ in range(GUESTS + 5)]
            for sock in socks:
                sock.connect(str(front.path))
            over = sum(sock.recv(1) == b"" for sock in socks)  # each is hung up on: those beyond the limit, and the silent ones in time
            os.write(tell, str(over).encode())
            os._exit(0)
        os.close(tell)
        over = int(await asyncio.to_thread(os.read, told, 16))
        await asyncio.to_thread(os.waitpid, child, 0)
        reader, writer = await asyncio.open_unix_connection(str(front.path))
        writer.write(b'{"v": 1, "verb": "node"}\n')
        answer = await reader.readline()
        writer.close()
        front.close()
        return over, answer

    over, answer = asyncio.run(main())
    assert over == GUESTS + 5 and json.loads(answer)["ok"] is True
