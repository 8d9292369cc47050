"""The life of the daemon, from the first fork to the last record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading

from stockade import __version__
from stockade.daemon import notify
from stockade.daemon.attend import attach
from stockade.daemon.front import Front, Json, Spoken
from stockade.daemon.host import Host
from stockade.daemon.mounts import must_outlive
from stockade.daemon.nursery import Nursery
from stockade.daemon.overview import sandboxes
from stockade.daemon.programs import Programs, listeners
from stockade.daemon.run import run
from stockade.kernel.load import mounted_bpffs
from stockade.policy.rego import judge
from stockade.sandbox import libc
from stockade.service.settings import Settings
from stockade.service.state import build
from stockade.service.workers import Workers
from stockade.types import StockadeError

log = logging.getLogger(__name__)

ENDS = 15.0  # seconds in which it has ended, once it is told to: sandboxes have no egress meanwhile, and the unit gives it 20
_FAILED = 70  # EX_SOFTWARE (sysexits.h)


def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises StockadeError when it cannot serve."""
    if os.geteuid() != 0:
        raise StockadeError("stockade daemon needs root", hint="sudo stockade daemon", code="not_root")
    judge.use(None)  # as in `run`
    os.umask(0o022)
    front = Front.take(settings.daemon)
    nursery = None
    try:
        bpffs = mounted_bpffs(settings.run / "bpf")
        must_outlive(bpffs)
        nursery = Nursery.begin(settings, listeners())
        first = Workers.fork(settings)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        programs = Programs(settings, bpffs, build(settings.network))
        asyncio.run(_serve(settings, front, nursery, Host(settings, nursery, Workers(first, nursery.worker), programs, bpffs)))
    finally:
        front.close()
        if nursery is not None:
            nursery.close()


async def _serve(settings: Settings, front: Front, nursery: Nursery, host: Host) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.programs.over.set)

    async def ran(arguments: Json, spoken: Spoken) -> None:
        await run(arguments, spoken, host, nursery, settings)

    async def asked(arguments: Json, spoken: Spoken) -> None:
        await attach(arguments, spoken, host.attachments)

    async def node(_arguments: Json, spoken: Spoken) -> None:
        spoken.say(ok=True, answer=host.node())

    def status() -> str:
        number = len(host.hosted) + len(host.attachments.held)
        return f"serves {number} sandbox{'' if number == 1 else 'es'}"

    one = asyncio.Lock()  # looks at a time, however many ask

    async def overview(_arguments: Json, spoken: Spoken) -> None:
        async with one:
            found = await sandboxes(settings, True)
        spoken.say(ok=True, answer={"daemon": {"version": __version__, "pid": os.getpid()}, "sandboxes": found})

    def reload() -> None:
        notify.reloading()
        for hosted in host.hosted.values():
            hosted.reload()
        for attached in host.attachments.held:
            attached.reload()
        notify.tell("READY=1", f"STATUS={status()}")

    async with contextlib.AsyncExitStack() as stack:
        for line in await host.begin_all(stack):
            print(f"stockade: {line}", file=sys.stderr, flush=True)
        loop.add_signal_handler(signal.SIGHUP, reload)
        front.serve({"run": ran, "attach": asked, "node": node, "overview": overview})
        taking_up = asyncio.create_task(_take_up(host))
        stack.callback(taking_up.cancel)
        awake = asyncio.create_task(notify.keep_awake(status))
        stack.callback(awake.cancel)
        notify.tell("READY=1", f"STATUS={status()}")
        await host.programs.over.wait()
        notify.tell("STOPPING=1")
        late = threading.Timer(ENDS, _give_up)
        late.daemon = True
        late.start()
        if host.programs.broken:
            await host.emptied()
            said = "what holds every sandbox was taken away: they were killed"
            raise StockadeError(said, hint="the next daemon begins anew", code="enforcement_lost")


async def _take_up(host: Host) -> None:
    """What it did not start, while others ask already: each is held until it is its turn."""
    try:
        async for line in host.attachments.take_up():
            print(f"stockade: {line}", file=sys.stderr, flush=True)
    except Exception:  # each stays held
        log.exception("what daemons before this one held was not taken over")


def _give_up() -> None:
    """Something hangs, a thread or a child, for which an orderly end would wait for ever. It is held as after kill -9."""
    print(f"stockade: it did not end in {ENDS:.0f} seconds, and ends as if killed; its sandboxes stay held", file=sys.stderr, flush=True)
    os._exit(_FAILED)
