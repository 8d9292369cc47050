"""`stockade fleet`: the sandboxes of many hosts, and where the hosts differ."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from stockade.cli.actions import add_named
from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.fleet.drift import Finding
    from stockade.fleet.reach import Asked
    from stockade.fleet.totals import Total

SUMMARY = (
    "Look at many hosts at once: versions, policies, generations, refusals, and what differs that should not. Exit status: 0 all is well, "
    "1 something differs, is wrong, or did not answer, 2 it could not be asked."
)
EXAMPLES = """\
  stockade fleet status hosts.txt                        # `NAME ADDRESS` on each line: ssh://gpu-1.example, local
  stockade fleet status ssh://gpu-1.example ssh://ops@10.20.0.7:2222 local
  stockade fleet status hosts.txt --command 'sudo -n stockade' -o json | jq '.findings'
  stockade fleet status --kubernetes ~/.kube/config      # the nodes of a cluster, and what holds on each
  stockade fleet diff --kubernetes in-cluster            # only what differs, or is wrong: nothing, and 0, when all is well
  stockade fleet audit hosts.txt                         # what was allowed and refused, added up by policy
  stockade fleet node                                    # what this host answers; run by `fleet status` over ssh
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = {
        "status": "ask hosts, and say where they differ",
        "diff": "ask hosts, and say only where they differ, and what is wrong",
        "audit": "ask hosts, and add up what was allowed and refused, by policy",
        "node": "say what this host would answer",
    }
    for name, action in add_named(parser, "fleet", actions, EXAMPLES).items():
        if name != "node":
            action.add_argument("host", nargs="*", metavar="FILE|ADDRESS", help="files with hosts, or addresses")
            action.add_argument(
                "--kubernetes",
                action="append",
                default=[],
                metavar="KUBECONFIG",
                help="the nodes of a cluster, by what the status of its policies says; `in-cluster` for the service account of a pod",
            )
            action.add_argument("--command", default="stockade", metavar="WORDS", help="how stockade is called there (default: stockade)")
            action.add_argument("--ssh-option", action="append", default=[], metavar="O", help="an option of ssh, as its -o takes it")
            action.add_argument("--seconds", type=float, default=30.0, metavar="N", help="how long one host may take (default: 30)")
            action.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")


def run(args: argparse.Namespace) -> int:
    from stockade.cli.status import problems
    from stockade.fleet import drift, hosts, node, reach, totals
    from stockade.service.settings import Settings

    if args.action == "node":
        print(json.dumps(node.here(Settings(), problems).as_json()))
        return 0
    way = reach.Way(args.command, tuple(args.ssh_option), args.seconds)
    if not args.host and not args.kubernetes:
        raise StockadeError("nobody is to be asked", hint="name hosts, or a cluster with --kubernetes", code="fleet")
    asked = [*reach.ask_all(hosts.named(args.host), way, problems), *(each for name in args.kubernetes for each in _cluster(name))]
    findings = drift.findings(asked)
    if args.output == "json" and args.action == "audit":
        print(json.dumps([dataclasses.asdict(total) for total in totals.totals(asked)], indent=2))
    elif args.output == "json" and args.action == "diff":
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    elif args.output == "json":
        told = [{"name": each.host.name, "why": each.why, "node": each.node.as_json() if each.node else None} for each in asked]
        print(json.dumps({"hosts": told, "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=2))
    elif args.action == "audit":
        _print_totals(totals.totals(asked))
        _print_findings([finding for finding in findings if finding.kind is drift.Kind.UNREACHED])
    else:
        if args.action == "status":
            _print(asked)
        _print_findings(findings)
    return 1 if findings else 0


def _cluster(kubeconfig: str) -> list[Asked]:
    import importlib.util

    if importlib.util.find_spec("kubernetes") is None:
        hint = "pip install 'stockade[kubernetes]'"
        raise StockadeError("this installation cannot ask a cluster's API", hint=hint, code="fleet")
    from stockade.kubernetes.overview import overview

    return overview(None if kubeconfig == "in-cluster" else Path(kubeconfig))


def _print(asked: list[Asked]) -> None:
    from stockade.cli.top.text import plain, safe

    print(
        f"{'HOST':16} {'VERSION':9} {'SANDBOX':16} {'POLICY':20} {'DIGEST':12} {'GEN':>4} {'MODE':8} {'ALLOWED':>8} {'REFUSED':>8}  MOSTLY"
    )
    for each in asked:
        name, version = plain(each.host.name, 16), plain(each.node.version if each.node else "-", 9)
        for sandbox in each.node.sandboxes if each.node else ():
            policy = f"{plain(sandbox.policy, 20)} {plain(sandbox.policy_sha256[:12], 12)} {sandbox.generation:>4} {plain(sandbox.mode, 8)}"
            counts = f"{sandbox.allowed:>8} {sandbox.kept_out:>8}"
            print(f"{name} {version} {plain(sandbox.name, 16)} {policy} {counts}  {safe(', '.join(sandbox.refused).replace(' × ', ' x '))}")
        if not (each.node and each.node.sandboxes):
            print(f"{name} {version} {'no answer' if each.node is None else '-'}")


def _print_totals(found: list[Total]) -> None:
    from stockade.cli.top.text import plain

    print(f"{'POLICY':48} {'HOSTS':>6} {'ROWS':>6} {'ALLOWED':>10} {'REFUSED':>10} {'UNENFORCED':>10}")
    for each in found:
        counts = f"{each.hosts:>6} {each.sandboxes:>6} {each.allowed:>10} {each.refused:>10} {each.unenforced:>10}"
        print(f"{plain(each.policy, 48)} {counts}")


def _print_findings(findings: list[Finding]) -> None:
    from stockade.cli.top.text import safe

    for finding in findings:
        print(f"! {finding.kind}: {safe(' '.join(filter(None, (finding.host, finding.sandbox))))}: {safe(finding.text)}")
