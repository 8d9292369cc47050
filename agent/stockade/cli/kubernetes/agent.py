"""`stockade kubernetes agent`: the agent of one node."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Hold the pods of this node to the cluster's policies. Ends with SIGTERM, and leaves them held."
EXAMPLES = """\
  stockade kubernetes agent                                # in the DaemonSet, with NODE_NAME and a service account
  stockade kubernetes agent --settings ./stockade.yaml     # with kubernetes.node and kubernetes.kubeconfig in it
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("-v", "--verbose", action="store_true", help="say on stderr what is heard of policies")


def run(args: argparse.Namespace) -> int:
    import logging

    from stockade.kubernetes.agent import serve
    from stockade.service.settings import Settings
    from stockade.settings import configured

    settings = Settings.of(configured(args.settings))
    logging.basicConfig(format="stockade: %(levelname)s %(message)s", level=logging.INFO if args.verbose else logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # what the API does not answer is said once, by whoever asked
    serve(settings)
    return 0
