"""A server that speaks SSH: python3 ssh_server.py DIRECTORY. Prints its port; runs what it is asked to, as whoever started it.

DIRECTORY: gets the client's key (`client`) and the file by which the client knows the server (`known_hosts`).
"""

import asyncio
import sys
from pathlib import Path

import asyncssh

directory = Path(sys.argv[1])


async def run(process: asyncssh.SSHServerProcess) -> None:
    child = await asyncio.create_subprocess_shell(
        process.command or "true", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await child.communicate()
    process.stdout.write(said.decode())
    process.stderr.write(complained.decode())
    process.exit(child.returncode or 0)


async def main() -> None:
    host, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    (directory / "client").touch(0o600)
    (directory / "client").write_bytes(client.export_private_key())
    (directory / "authorised").write_bytes(client.export_public_key())
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host], authorized_client_keys=str(directory / "authorised"), process_factory=run
    )
    port = server.get_port()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    print(port, flush=True)
    await server.wait_closed()


asyncio.run(main())
