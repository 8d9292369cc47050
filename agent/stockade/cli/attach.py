"""`stockade attach`: hold a container, a unit or a process that runs already to a policy."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.cli.ordered import add_order, daemon_for, order_of
from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.attach.attachment import Standing

SUMMARY = (
    "Hold what runs already to a policy: a container of runc, podman, containerd or docker, a unit of systemd, or any cgroup. Its "
    "processes are identified, its devices are closed, and what it asks for is decided as in `stockade run`, by the daemon where one runs. "
    "Until it ends (0, or the status of the container), or a signal or --let-go comes, which lets go of it (0). 2 when it is not "
    "governed; 70 when it stays held, and nobody answers it."
)
LETS_GO = 30.0  # seconds, in which the last records are written
EXAMPLES = """\
  stockade attach --container web --policy web.yaml
  stockade attach --container 3f9c2a --policy web.yaml --existing keep
  stockade attach --systemd nightly-agent --policy agent.yaml
  stockade attach --cgroup /kubepods/burstable/pod1b2c/77ab --policy pod.yaml
  stockade attach --cgroup kubepods-besteffort-pod1b2c.slice:cri-containerd:77ab --policy pod.yaml
  stockade attach --pid 4242 --policy agent.yaml -v
  stockade attach --let-go web            # also what `stockade oci-hook` governs; it runs on, ungoverned
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--container", metavar="ID", help="by its name, its id, or what its id begins with")
    which.add_argument("--cgroup", metavar="PATH", help="of the v2 hierarchy; also systemd's SLICE:PREFIX:NAME")
    which.add_argument("--systemd", metavar="UNIT", help="a unit of systemd's")
    which.add_argument("--pid", type=int, metavar="N", help="the whole cgroup of a process")
    which.add_argument(
        "--let-go", metavar="NAME", help="govern it no more: one that is governed, by its name in records; nothing else is done"
    )
    add_order(parser, "its name in every record (default: the container's)")
    parser.add_argument(
        "--existing", choices=("cut", "keep"), default="cut", help="connections that it has already (default: cut; both are recorded)"
    )


def run(args: argparse.Namespace) -> int:
    from stockade.attach import target
    from stockade.attach.foreground import attach
    from stockade.attach.wanted import Wanted
    from stockade.service.settings import Settings
    from stockade.settings import configured

    if args.let_go is not None:
        return _let_go(Settings().control, args.let_go)
    if not args.policy and not args.preset:
        raise StockadeError("no policy given", hint="stockade attach --container ID --policy FILE", code="no_policy")
    if args.container is not None:
        found = target.of_container(args.container)
    elif args.cgroup is not None:
        found = target.of_cgroup(args.cgroup)
    elif args.systemd is not None:
        found = target.of_unit(args.systemd)
    else:
        found = target.of_process(args.pid)
    wanted = Wanted(order_of(args), found, args.existing)
    if (daemon := daemon_for(wanted.order, args.embedded)) is not None:
        from stockade.daemon.attaching import attach_by

        if (status := attach_by(daemon, wanted, said)) is not None:
            return status
    return attach(wanted, Settings.of(configured(args.settings)), said)


def _let_go(control: Path, name: str) -> int:
    """Returns when nobody governs it any more."""
    from stockade.service.control import ask, running

    try:
        ask(control, name, "let_go")
    except StockadeError as error:
        if error.code != "no_verb":
            raise
        raise StockadeError(f"{name} was not attached to", hint=f"stockade sandbox kill {name}", code="no_verb") from None
    until = time.monotonic() + LETS_GO
    while name in running(control):
        if time.monotonic() > until:
            raise StockadeError(f"the agent of {name} is still there", hint="stockade status says how it goes", code="control")
        time.sleep(0.05)
    print(f"{name}: let go of; what runs there is not governed any more")
    return 0


def said(standing: Standing) -> None:
    """On stdout that it is governed; on stderr what the user should know of it."""
    from stockade.attach.attachment import NEVER

    for known in standing.processes:
        print(f"stockade: runs already: {known}", file=sys.stderr)
    for conversation in standing.connections:
        print(f"stockade: connected already: {conversation}", file=sys.stderr)
    print(
        f"stockade: not given to what runs already: {NEVER}; HTTP rules refuse whoever does not trust the sandbox's own CA", file=sys.stderr
    )
    for name in standing.missing:
        print(f"stockade: {name}, which the policy names, is not in the container", file=sys.stderr)
    for path in standing.written:
        print(f"stockade: {path} was written by the container: it is not what the policy names", file=sys.stderr)
    for why in standing.unheld:
        print(f"stockade: NOT HELD: {why}", file=sys.stderr)
    print(f"{standing.name}: governed, {len(standing.processes)} processes, device: {standing.device}", flush=True)
