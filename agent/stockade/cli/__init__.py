"""The command line: a file per verb, each with SUMMARY, EXAMPLES, arguments(parser) and run(args) -> exit status.

Only the verb that was asked for is imported: start-up time is part of the product. Answers go to stdout, talk to stderr.
Exit status: 0 fine, 1 findings, 2 could not run; `run` exits with the command's own, 125 when Stockade itself failed. Who reads the answer
may leave early (`stockade presets | head -3`): the status is then 141, as of any program that SIGPIPE ends, and nothing is said.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from stockade import __version__
from stockade.types import StockadeError

VERBS = {
    "init": "set up a first policy for a project, and try it",
    "run": "run a command held to a policy",
    "attach": "hold a container, a unit or a process that runs already to a policy",
    "oci-hook": "govern a container before it starts, for its runtime",
    "daemon": "serve every sandbox of this machine from one process",
    "adopt": "take over a sandbox whose agent has died",
    "sandbox": "list sandboxes, or end one",
    "status": "say which sandboxes run, and how it goes",
    "top": "show what running sandboxes do, live",
    "fleet": "look at the sandboxes of many hosts, and where the hosts differ",
    "kubernetes": "give pods of a cluster their trust store",
    "explain": "say how the policy decides one request, and why",
    "policy": "check policy files",
    "reload": "let running sandboxes read their policies again",
    "ca": "show what signs for running sandboxes, or let another key take over",
    "approvals": "let pass what running sandboxes were refused, or not",
    "seccomp": "show which system calls a sandbox may make",
    "privacy": "show, measure and extend what is found in calls to language models",
    "presets": "list the policies that ship with Stockade",
    "audit": "verify and read the audit trail",
    "doctor": "say what this kernel and machine can enforce",
}


def _parser(verb: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stockade", description="Hold an AI agent's processes to a policy.")
    parser.add_argument("--version", action="version", version=f"stockade {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if name != verb:
            verbs.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module(f"stockade.cli.{name.replace('-', '_')}")
        own = verbs.add_parser(
            name,
            help=summary,
            description=module.SUMMARY,
            epilog="examples:\n" + module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(own)
        own.set_defaults(run=module.run)
    return parser


def _parsed(verb: str | None, words: list[str]) -> argparse.Namespace:
    """Words that nobody knows are told by the verb they were given to: the list of verbs would help nobody there."""
    try:
        args, unknown = _parser(verb).parse_known_args(words)
    except SystemExit:  # after --help and --version, too
        _flush()
        raise
    if unknown:
        own = " ".join(["stockade", args.verb, *([args.action] if isinstance(getattr(args, "action", None), str) else [])])
        print(f"{own}: error: unrecognized arguments: {' '.join(unknown)}\n  hint: {own} --help", file=sys.stderr)
        raise SystemExit(2)
    return args


def _flush() -> None:
    """Here, and not at exit, where nobody could answer for what did not get out."""
    if sys.stdout is not None:  # a caller may have closed it
        sys.stdout.flush()


def _drop_output() -> None:
    """What stdout still holds goes nowhere: Python would try it once more at exit, and complain about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_standard_streams() -> None:
    """A caller may have closed 0, 1 or 2: the next file opened would take its number, and be handed on as the command's."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `stockade`. Returns the exit status; only a bug shows a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    _open_standard_streams()
    try:
        args = _parsed(verb, words)
        status: int = args.run(args)
        _flush()
    except StockadeError as error:
        print(f"stockade: {error.message} [{error.code}]", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return 125 if verb == "run" else 2
    except BrokenPipeError:
        _drop_output()
        return 125 if verb == "run" else 128 + 13
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        print(f"stockade: cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror} [no_space]", file=sys.stderr)
        return 125 if verb == "run" else 2
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
