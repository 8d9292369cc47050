"""`stockade daemon`: one agent for all sandboxes of this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Serve every sandbox of this machine from one process, which `stockade run` then asks. Ends with SIGTERM, and leaves them held."
EXAMPLES = """\
  systemctl enable --now stockade        # as a service, with what deploy/install.sh installed
  stockade daemon                        # in the foreground
  stockade daemon --check                # is the settings file right, and can this machine hold a sandbox?
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("--check", action="store_true", help="read the settings, look at the machine, and serve nothing")


def run(args: argparse.Namespace) -> int:
    from stockade.service.settings import Settings
    from stockade.settings import configured

    settings = Settings.of(configured(args.settings))
    if args.check:
        from stockade.cli import doctor

        return doctor.run(argparse.Namespace(json=False))
    import logging

    from stockade.daemon.main import serve

    logging.basicConfig(format="stockade: %(levelname)s %(message)s")
    serve(settings)
    return 0
