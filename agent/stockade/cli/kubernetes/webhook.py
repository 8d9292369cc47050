"""`stockade kubernetes webhook`: gives pods that are made the trust store of their sandbox."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.metrics.listen import Listen

SUMMARY = "Give pods that are made a volume for their sandbox's CA, the variables that lead to it, and neither NET_RAW nor NET_ADMIN."
EXAMPLES = """\
  stockade kubernetes webhook --certificate /tls/tls.crt --key /tls/tls.key
  stockade kubernetes webhook --certificate tls.crt --key tls.key --listen 10.0.0.7:8443 --metrics 0.0.0.0:9464
  stockade kubernetes webhook --certificate tls.crt --key tls.key --leave cattle-system --may-keep monitoring/NET_RAW
  stockade kubernetes webhook --certificate /tls/tls.crt --key /tls/tls.key --policies
"""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM, read again when it changes")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="its key, PEM without a password")
    parser.add_argument("--listen", default="0.0.0.0:8443", metavar="ADDRESS", help="where (default: 0.0.0.0:8443)")
    parser.add_argument("--metrics", metavar="ADDRESS", help="serve metrics there, over HTTP, as 0.0.0.0:9464")
    parser.add_argument(
        "--leave",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="leave its pods alone, beside those of kube-system, kube-public, kube-node-lease and of the webhook's own (POD_NAMESPACE)",
    )
    parser.add_argument(
        "--may-keep",
        action="append",
        default=[],
        metavar="[NAMESPACE/]CAPABILITY",
        help="NET_RAW or NET_ADMIN, which a pod that asks in stockade.internal/keep-capabilities keeps; with NET_ADMIN it is not held",
    )
    parser.add_argument(
        "--policies",
        action="store_true",
        help="change only pods that a policy of the cluster means; asks its API for policies and namespaces (list, watch)",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="whom --policies asks (default: as the pod that this runs in)")
    parser.add_argument("-v", "--verbose", action="store_true", help="say every review on stderr")


def run(args: argparse.Namespace) -> int:
    import asyncio
    import logging
    import os

    from stockade.kubernetes.serving import Settings, serve
    from stockade.kubernetes.webhook import OURS, Whom

    own = os.environ.get("POD_NAMESPACE")
    left = frozenset((*OURS, *map(_namespace, args.leave), *((own,) if own else ())))
    whom = Whom(left, frozenset(map(_keep, args.may_keep)))
    metrics = _listen("--metrics", args.metrics) if args.metrics else None
    listen = _listen("--listen", args.listen)
    settings = Settings(listen, args.certificate, args.key, whom, metrics, args.policies, args.kubeconfig)
    logging.basicConfig(format="stockade: %(levelname)s %(message)s", level=logging.INFO if args.verbose else logging.WARNING)
    asyncio.run(serve(settings))
    return 0


def _listen(flag: str, text: str) -> Listen:
    from stockade.metrics.listen import Listen

    try:
        return Listen.parse(text)
    except ValueError as error:
        raise StockadeError(f"{flag} {text}: {error}", hint="an address and a port, as 0.0.0.0:8443", code="bad_address") from None


def _namespace(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise StockadeError(f"`{text}` is no name of a namespace", hint="small letters, digits, `-`", code="bad_namespace")
    return text


def _keep(text: str) -> tuple[str, str]:
    from stockade.kubernetes.patch import TAKEN

    namespace, _, capability = text.rpartition("/")
    if capability not in TAKEN:
        raise StockadeError(f"--may-keep {text}: accepted: {', '.join(TAKEN)}", hint="--may-keep monitoring/NET_RAW", code="bad_capability")
    return (_namespace(namespace) if namespace else ""), capability
