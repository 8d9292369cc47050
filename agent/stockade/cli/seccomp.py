"""`stockade seccomp`: the system calls a sandbox may make, for readers and for container runtimes."""

from __future__ import annotations

import argparse
import json

from stockade.cli.choice import add_policies, chosen

SUMMARY = "Show the system call filter of a sandbox, or export it for a container runtime."
EXAMPLES = """\
  stockade seccomp show
  stockade seccomp show -o json | jq .count
  stockade seccomp show --policy agent.yaml --format oci > profile.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="seccomp_verb", metavar="VERB", required=True)
    show = verbs.add_parser(
        "show",
        help="print which system calls are allowed, and why",
        description="Print which system calls a sandbox may make, by group, and how many there are.",
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_policies(show)
    show.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print the list")
    show.add_argument(
        "--format",
        choices=("stockade", "oci"),
        default="stockade",
        help="oci: a JSON profile as OCI runtimes and Kubernetes take it (securityContext.seccompProfile, type Localhost)",
    )


def run(args: argparse.Namespace) -> int:
    from stockade.policy.model import Policy
    from stockade.sandbox import profile, seccomp
    from stockade.sandbox.syscalls import allowed

    policy = chosen(args) if args.policy or args.preset else Policy("")
    stated, executable = policy.process.seccomp, policy.exec.writable
    calls = allowed(stated.allow, stated.deny, executable=executable)
    if args.format == "oci":
        print(json.dumps(profile.as_oci(seccomp.sandbox(stated, executable=executable)), indent=2))
    elif args.output == "json":
        print(json.dumps(profile.as_json(calls), indent=2))
    else:
        print(profile.as_text(calls))
    return 0
