"""`stockade daemon`: one agent for all sandboxes of this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = (
    "Serve every sandbox of this machine from one process, which `stockade run`, `stockade attach` and `stockade oci-hook` then ask. Ends "
    "with SIGTERM, and leaves them held."
)
EXAMPLES = """\
  stockade daemon                        # in the foreground
  stockade daemon --unit > /etc/systemd/system/stockade.service         # as `install.sh --service` does
  systemctl daemon-reload && systemctl enable --now stockade            # as a service
  stockade daemon --check                # is the settings file right, and can this machine hold a sandbox?
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the settings file (default: /etc/stockade/stockade.yaml, if there)")
    parser.add_argument("--check", action="store_true", help="read the settings, look at the machine, and serve nothing")
    parser.add_argument("--unit", action="store_true", help="print a unit for systemd that starts this very command, and serve nothing")


def run(args: argparse.Namespace) -> int:
    if args.unit:
        from stockade.daemon.unit import text

        print(text(str(Path(sys.argv[0]).absolute()), args.settings.absolute() if args.settings is not None else None), end="")
        return 0
    from stockade.service.settings import Settings
    from stockade.settings import configured

    settings = Settings.of(configured(args.settings))
    if args.check:
        from stockade.cli import doctor

        print(f"settings: {settings.configured.file or 'none, so every default holds'}")
        return doctor.run(argparse.Namespace(output="text", settings=args.settings))
    import logging

    from stockade.daemon.main import serve

    logging.basicConfig(format="stockade: %(levelname)s %(message)s")
    serve(settings)
    return 0
