"""What a cluster's agents say of their nodes, in one look at its API, for `stockade fleet`: the status of its policies, node by node."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from stockade.fleet.hosts import Host
from stockade.fleet.node import MOST, TEXT, Node, Sandbox
from stockade.fleet.reach import Asked
from stockade.kubernetes.api import CLUSTER_POLICIES, NODES, POLICIES, Api, Away, Denied, Expired
from stockade.kubernetes.resources import Json, Resource, policy
from stockade.kubernetes.status import of_mappings
from stockade.types import StockadeError

_PAGE = "200"


def overview(kubeconfig: Path | None) -> list[Asked]:
    """A host for each node that says something, with a row for each policy there. Raises StockadeError: the API cannot be asked."""
    cluster = Api(kubeconfig)
    try:
        policies = [policy(item) for path in (CLUSTER_POLICIES, POLICIES) for item in _all(cluster, path)]
        kernels = {_at(item, "metadata", "name"): _at(item, "status", "nodeInfo", "kernelVersion") for item in _all(cluster, NODES)}
    except (Away, Denied, Expired) as error:
        raise StockadeError(f"{cluster.host}: {error}", hint="who asks may list policies and nodes", code="fleet") from None
    return told(policies, kernels)


def told(policies: list[Resource], kernels: dict[str, str]) -> list[Asked]:
    """kernels: of the nodes that there are, by name."""
    rows: dict[str, list[Sandbox]] = defaultdict(list)
    versions: dict[str, str] = {}
    for each in policies:
        for entry in of_mappings(each.status, "nodes")[:MOST]:
            name = _text(entry.get("name"))
            rows[name].append(_row(each, entry))
            versions[name] = _text(entry.get("agent"))
    found = []
    for name, sandboxes in sorted(rows.items()):
        if name in kernels:
            found.append(Asked(Host(name), Node(versions[name], name, kernels[name], tuple(sandboxes))))
        else:
            found.append(Asked(Host(name), None, "the cluster has no such node any more"))
    return found


def _row(resource: Resource, entry: Json) -> Sandbox:
    pods, governed, generation = (_number(entry.get(name)) for name in ("pods", "sandboxes", "generation"))
    allowed, refused, unenforced = (_number(entry.get(name)) for name in ("allowed", "refused", "unenforced"))
    problems = [f"{_text(each.get('field'))}: {_text(each.get('message'))}" for each in of_mappings(entry, "problems")]
    stand = resource.status.get("rollout")
    rolled = isinstance(stand, dict) and stand.get("state") in ("Progressing", "Paused", "RolledBack")
    if generation != resource.generation and not problems and not rolled:
        problems.append(f"generation {generation} is in force, and {resource.generation} is the newest")
    problems += [f"not held: {_text(each)}" for each in entry.get("unheld") or ()]
    problems += [f"without its sandbox's trust store: {_text(each)}" for each in entry.get("untrusting") or ()]
    return Sandbox(
        f"{governed} of {pods} pods",
        policy=str(resource.key),
        generation=generation,
        mode=_text(resource.spec.get("mode")) or "enforce",
        allowed=allowed,
        denied=refused + unenforced,
        unenforced=unenforced,
        problems=tuple(problem[:TEXT] for problem in problems),
    )


def _all(cluster: Api, path: str) -> list[Json]:
    items: list[Json] = []
    more = ""
    while True:
        page = cluster.ask("GET", path, query=[("limit", _PAGE), *([("continue", more)] if more else [])])
        items += [item for item in page.get("items") or () if isinstance(item, dict)]
        if not (more := _at(page, "metadata", "continue")):
            return items


def _at(item: Json, *names: str) -> str:
    found: Any = item
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return _text(found)


def _text(value: Any) -> str:
    return value[:TEXT] if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
