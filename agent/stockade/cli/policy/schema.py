"""`stockade policy schema`: the format of policies, for editors and other tools."""

from __future__ import annotations

import argparse

SUMMARY = "Print the JSON Schema of policies, for editors and other checks (`policy check` knows more), or the resources of Kubernetes."
EXAMPLES = """\
  stockade policy schema > policy.schema.json
  stockade policy schema --crd | kubectl apply -f -
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("json",), default="json", help="how to print")
    parser.add_argument(
        "--crd", action="store_true", help="the CustomResourceDefinitions StockadePolicy and ClusterStockadePolicy, as YAML"
    )


def run(args: argparse.Namespace) -> int:
    from stockade.policy.format import crd, json_schema

    print(crd.as_text() if args.crd else json_schema.as_text(), end="")
    return 0
