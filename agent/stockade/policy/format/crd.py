"""The format as Kubernetes resources: StockadePolicy of a namespace, ClusterStockadePolicy of all. deploy/kubernetes/crds.yaml.

Structural schemas (Kubernetes, "Specifying a structural schema"), made from the same specification as policies/schema.json. What differs:

- A key that the format does not know is *kept*, not pruned. The API server drops what its schema does not name without a word, and a
  misspelt `deny` that is dropped is a policy that allows more than its author wrote. Kept, it reaches the loader, which refuses it by name.
- Where the format takes one value or a list of them, a resource takes the list: a structural schema has one type for each field.
- Names of keys (`propertyNames`) are the loader's to check, as is all that policies/schema.json leaves to it.
- What belongs to files or to the sandbox's making is not there: see LEFT_OUT.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from stockade.policy.format.json_schema import Json, schema

GROUP, VERSION = "stockade.internal", "v1alpha1"
LEFT_OUT = {
    "version": "apiVersion says it",
    "name": "metadata.name is it",
    "labels": "records carry the pod's namespace and name",
    "rego": "it names files, and a resource has none beside it",
    "filesystem": "the pod's volumes and its securityContext say what is there",
    "process": "the pod's own spec says as whom and with what it runs",
}
_KEPT = {"x-kubernetes-preserve-unknown-fields": True}
_AT_THE_END = r"(?!\n)"  # Go's `$` holds nowhere else
_LABEL = {"type": "string", "maxLength": 317}
_SELECTOR: Json = {  # a misspelt matchLabels that is dropped would choose every pod
    **_KEPT,
    "type": "object",
    "properties": {
        "matchLabels": {"description": "Labels that must all be there.", "type": "object", "additionalProperties": _LABEL},
        "matchExpressions": {
            "description": "Conditions that must all hold.",
            "type": "array",
            "items": {
                **_KEPT,
                "type": "object",
                "required": ["key", "operator"],
                "properties": {
                    "key": _LABEL,
                    "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "items": _LABEL},
                },
            },
        },
    },
}
_CONDITION: Json = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"description": "Loaded, Enforced, Trusted or Progressing.", "type": "string", "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {
            "description": "The metadata.generation that it is about.",
            "type": "integer",
            "format": "int64",
            "minimum": 0,
        },
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"description": "One word for programs.", "type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        "message": {"description": "For people.", "type": "string", "maxLength": 32768},
    },
}


def _number(means: str, form: str = "int32") -> Json:
    return {"description": means, "type": "integer", "format": form, "minimum": 0}


def _texts(means: str) -> Json:
    return {"description": means, "type": "array", "items": {"type": "string"}, "maxItems": 16}


_PROBLEM: Json = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "field": {"description": "Which field, as spec.network[0].path.allow[1].", "type": "string"},
        "line": {
            "description": "Its line in the policy as `stockade kubernetes check --print` shows it.",
            "type": "integer",
            "format": "int32",
            "minimum": 1,
        },
        "code": {"description": "The code of docs/policy-errors.md.", "type": "string"},
        "message": {"description": "What is wrong, and what is accepted.", "type": "string"},
    },
}
_NODE: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"description": "The node.", "type": "string", "maxLength": 253},
        "loaded": {"description": "Whether the newest generation loads there.", "type": "boolean"},
        "observedGeneration": _number("The metadata.generation that was read there last.", "int64"),
        "generation": _number("The metadata.generation in force there; 0: none.", "int64"),
        "pods": _number("How many pods it means there."),
        "sandboxes": _number("How many of them are governed by it."),
        "observing": _number("Of how many of them what would be refused is only recorded."),
        "allowed": _number("What they were allowed since the agent there started.", "int64"),
        "refused": _number("What they were refused since then.", "int64"),
        "unenforced": _number("What they would have been refused, where it only observes.", "int64"),
        "problems": {"description": "Why the newest is not in force.", "type": "array", "items": _PROBLEM, "maxItems": 16},
        "unheld": _texts("Pods that are not held to it, and by what they could get something out."),
        "untrusting": _texts("Pods without the trust store of their sandbox: rules with a method and a path refuse there."),
        "looking": _number("How many pods of a roll-out's share are looked at there."),
        "unexpected": _texts("What those would have been refused that no deny list names."),
        "unexpectedCount": _number("How many of those there are."),
        "agent": {"description": "The version of the agent there.", "type": "string"},
        "updated": {"type": "string", "format": "date-time"},
    },
}
_ROLLOUT: Json = {
    **_KEPT,
    "description": "How it comes into force: looked at in a share of the pods, in stages, and then on all. Without it: on all at once.",
    "type": "object",
    "required": ["stages"],
    "properties": {
        "stages": {
            "type": "array",
            "minItems": 1,
            "maxItems": 16,
            "items": {
                **_KEPT,
                "type": "object",
                "required": ["percent", "for"],
                "properties": {
                    "percent": {"description": "Of the pods that it means.", "type": "integer", "minimum": 1, "maximum": 100},
                    "for": {"description": "How long they are looked at, as 30s, 10m, 2h, 1d.", "type": "string"},
                },
            },
        },
        "maximumUnexpected": _number("How many unexpected refusals there may be. Default: 0."),
        "rollback": {
            "description": "With more of them, whether what was before stays in force for good. Default: true.",
            "type": "boolean",
        },
    },
}
_ROLLED: Json = {
    "description": "Where the roll-out stands. Whoever changes it does so for one version of the object, so that no node leads.",
    "type": "object",
    "properties": {
        "generation": _number("The metadata.generation that it is about.", "int64"),
        "state": {"type": "string", "enum": ["Progressing", "Paused", "Complete", "RolledBack"]},
        "stage": _number("Which of the stages, from 0."),
        "since": {"description": "When that stage began.", "type": "string", "format": "date-time"},
        "unexpected": _number("How many unexpected refusals there were."),
        "stable": {
            "description": "What was in force before, and is for every pod until the roll-out is complete.",
            "type": "object",
            "properties": {
                "generation": _number("Its metadata.generation.", "int64"),
                "spec": {**_KEPT, "description": "Its spec.", "type": "object"},
            },
        },
    },
}
_STATUS: Json = {
    "description": "What nodes say of it. A policy that does not load never replaces one that did.",
    "type": "object",
    "properties": {
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "pods": _number("How many pods it means, on all nodes."),
        "sandboxes": _number("How many of them are governed by it."),
        "refused": _number("What they were refused since their nodes' agents started.", "int64"),
        "rollout": _ROLLED,
        "conditions": {
            "type": "array",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "nodes": {  # keyed, so that each node applies its own entry and needs no leader
            "description": "One entry a node that has pods that it means, or could not load it.",
            "type": "array",
            "items": _NODE,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    },
}
_COLUMNS = (
    ("Mode", "string", ".spec.mode", "enforce unless it says observe", 0),
    ("Priority", "integer", ".spec.priority", "of two policies the higher stands first", 1),
    ("Loaded", "string", '.status.conditions[?(@.type=="Loaded")].status', "whether the newest is in force on every node", 0),
    ("Pods", "integer", ".status.pods", "that it means", 0),
    ("Governed", "integer", ".status.sandboxes", "of those, pods that are held to it", 0),
    ("Refused", "integer", ".status.refused", "since their nodes' agents started; above 20 nodes no write is for counts alone", 0),
    ("Rollout", "string", ".status.rollout.state", "Progressing, Paused, Complete or RolledBack", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Loaded")].message', "what is wrong", 1),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
)


class _Dumper(yaml.SafeDumper):
    """Writes what is used twice twice: anchors are for machines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_text() -> str:
    """What stands in deploy/kubernetes/crds.yaml."""
    head = "# Made by `stockade policy schema --crd`; kubectl apply -f this file.\n"
    return head + yaml.dump_all(definitions(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def definitions() -> list[Json]:
    """Both CustomResourceDefinitions, as apiextensions.k8s.io/v1 takes them."""
    return [
        _definition("StockadePolicy", "stockadepolicy", "stockadepolicies", "stp", "Namespaced"),
        _definition("ClusterStockadePolicy", "clusterstockadepolicy", "clusterstockadepolicies", "cstp", "Cluster"),
    ]


def _definition(kind: str, singular: str, plural: str, short: str, scope: str) -> Json:
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
        "schema": {
            "openAPIV3Schema": {
                "description": _OF[scope],
                "type": "object",
                "required": ["spec"],
                "properties": {"spec": _spec(scope), "status": _STATUS},
            }
        },
    }
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "singular": singular,
        "plural": plural,
        "shortNames": [short],
        "categories": ["stockade"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": [version]},
    }


_OF = {
    "Namespaced": "What chosen pods of this namespace may run and reach.",
    "Cluster": "What chosen pods of any namespace may run and reach. What it denies, no policy of a namespace allows.",
}


def _column(name: str, kind: str, path: str, means: str, priority: int) -> Json:
    return {"name": name, "type": kind, "jsonPath": path, "priority": priority} | ({"description": means} if means else {})


def _spec(scope: str) -> Json:
    whole = schema()
    named: Json = whole["$defs"]
    policy = dict(named["policy"])
    policy["properties"] = {key: value for key, value in policy["properties"].items() if key not in LEFT_OUT}
    policy["required"] = [key for key in policy["required"] if key not in LEFT_OUT]
    found = structural(policy, named)
    choice: Json = {
        "selector": _SELECTOR | {"description": "Which pods, by label; {} is all. Without it: pods that name it in an annotation."}
    }
    if scope == "Cluster":
        choice["namespaceSelector"] = _SELECTOR | {"description": "Of which namespaces, by label. Default: all."}
    choice["priority"] = {
        "description": "Which stands first where several choose a pod: of two rules that allow, its is named. Any deny vetoes. Default: 0.",
        "type": "integer",
        "format": "int32",
        "minimum": -1000,
        "maximum": 1000,
    }
    choice["rollout"] = _ROLLOUT
    return found | {"description": "A policy, and whom it is for.", "properties": {**choice, **found["properties"]}}


def structural(node: Json, named: Json) -> Json:
    """One node of policies/schema.json as a structural schema has it; named are its $defs, which stand here where they are used.

    Raises ValueError for a keyword that has no counterpart: a schema that says less than the format is made knowingly, or not at all.
    """
    if "$ref" in node:
        own = {key: value for key, value in node.items() if key != "$ref"}
        return structural(named[node["$ref"].rpartition("/")[2]] | own, named)
    if not node.keys() - {"description"}:
        return node | _KEPT
    one_or_many = node.get("anyOf", [])
    if one_or_many and "type" not in node:  # a value or a list of them
        return structural({"description": node.get("description", ""), **one_or_many[1]}, named)
    found: Json = {}
    for key, value in node.items():
        match key:
            case "description" | "type" | "enum" | "minimum" | "maximum" | "minItems" | "required" if value != ["string", "integer"]:
                found[key] = value
            case "type":
                found["x-kubernetes-int-or-string"] = True
            case "pattern" | "not" | "if":
                found |= _asserted(node, key)
            case "items":
                found["items"] = structural(value, named)
            case "properties":
                found["properties"] = {name: structural(each, named) for name, each in value.items()}
            case "additionalProperties" if value is False:
                found |= _KEPT
            case "additionalProperties":
                found["additionalProperties"] = structural(value, named)
            case "propertyNames" | "then" | "else":
                pass  # the loader's; and `then` and `else` went with their `if`
            case _:
                raise ValueError(f"a structural schema has no {key}")
    if "type" not in found and "enum" in found:
        found["type"] = "integer" if isinstance(found["enum"][0], int) else "string"
    if found.get("required") == []:
        del found["required"]
    return found


def _asserted(node: Json, key: str) -> Json:
    match key:
        case "pattern":
            return _patterns(node[key])
        case "not":
            return {"not": _condition(node[key])}
        case _:
            when, then, otherwise = (_condition(node[word]) for word in ("if", "then", "else"))
            return {"anyOf": [{"allOf": [when, then]}, {"allOf": [{"not": when}, otherwise]}]}


def _condition(node: Any) -> Any:
    """What stands below a logical word: there a structural schema has assertions alone, and no types."""
    if isinstance(node, list):
        return [_condition(each) for each in node]
    if not isinstance(node, dict):
        return node
    found: Json = {}
    for key, value in node.items():
        match key:
            case "const":
                found["enum"] = [value]
            case "pattern":
                found |= _patterns(value)
            case "properties":
                found["properties"] = {name: _condition(each) for name, each in value.items()}
            case "type":
                pass
            case _:
                found[key] = _condition(value)
    return found


def _patterns(pattern: str) -> Json:
    """The same in RE2, which cannot look ahead: what must hold beside it, said before it, becomes a pattern of its own."""
    found = pattern.replace(_AT_THE_END, "")
    if ahead := re.fullmatch(r"\^\(\?:\(\?=([^()]*)\)(.*)\)\$", found):
        return {"allOf": [{"pattern": f"^(?:{ahead[1]})"}, {"pattern": f"^(?:{ahead[2]})$"}]}
    if re.search(r"\(\?<?[=!]", found):
        raise ValueError(f"RE2 cannot look around: {pattern}")
    return {"pattern": found}
