"""The specification as JSON Schema 2020-12, for editors and for whoever checks policies without Stockade: policies/schema.json.

It says what is well-formed. What it cannot say is the loader's alone: what a host, CIDR or path glob may be in detail, entries at odds with
each other, what other files hold, what this version does not carry out, and what YAML offers beyond plain data.
"""

from __future__ import annotations

import json
from typing import Any

from stockade.policy.format.shapes import Anything, Choice, Key, Many, Named, Number, Record, Text, Together, Type
from stockade.policy.format.spec import POLICY, RULES

Json = dict[str, Any]

_CONSTANTS: dict[str, dict[str, Any]] = {"number": {"1": 1}}  # what a word of a Choice is in JSON; any other is text


def as_text() -> str:
    """What stands in policies/schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Json:
    """The JSON schema (draft 2020-12) of a policy, made of the specification that the parser has."""
    named: dict[str, Json] = {}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stockade policy",
        "description": "A whole policy, or a bare list of network rules.",
        "if": {"type": "array"},
        "then": _any(RULES, named),
        "else": _any(POLICY, named),
        "$defs": dict(sorted(named.items())),
    }


def _any(wanted: Type, named: dict[str, Json]) -> Json:
    """The schema of one type; what has a title goes to named, and is referred to."""
    match wanted:
        case Text(title=""):
            return {"type": "string"}
        case Text():
            named[wanted.title] = _text(wanted)
            return {"$ref": f"#/$defs/{wanted.title}"}
        case Choice(kind="true or false"):
            return {"type": "boolean"}
        case Choice():
            constants = _CONSTANTS.get(wanted.kind, {})
            return {"enum": [constants.get(value, value) for value in wanted.values]}
        case Number():
            return {"type": "integer" if wanted.whole else "number", "minimum": wanted.least, "maximum": wanted.most}
        case Many():
            entry = _any(wanted.of, named)
            several = {"type": "array", "items": entry, "minItems": 1}
            return {"anyOf": [entry, several]} if wanted.or_one else several
        case Named():
            return {"type": "object", "propertyNames": _any(wanted.key, named), "additionalProperties": _any(wanted.value, named)}
        case Record():
            if wanted.title not in named:
                named[wanted.title] = _record(wanted, named)
            return {"$ref": f"#/$defs/{wanted.title}"}
        case Anything():
            return {}


def _text(wanted: Text) -> Json:
    found: Json = {"description": f"{_sentence(wanted.means)}.", "type": "string"}
    held = [form.pattern for form in wanted.forms if not form.refused] or [wanted.outline]
    refused: list[Json] = [{"type": "string", "pattern": _whole(form.pattern)} for form in wanted.forms if form.refused]
    found["pattern"] = _whole(*held)
    if wanted.or_number:
        found["type"] = ["string", "integer"]
        found["minimum"] = 0
        refused += [{"const": int(word)} for form in wanted.forms if form.refused for word in form.pattern.split("|") if word.isdigit()]
    if refused:
        found["not"] = {"anyOf": refused}
    return found


def _whole(pattern: str) -> str:
    """Some engines let `$` hold before a newline at the end too."""
    return rf"^(?:{pattern})$(?!\n)"


def _record(record: Record, named: dict[str, Json]) -> Json:
    found: Json = {
        "description": record.means,
        "type": "object",
        "properties": {key.name: {"description": _meaning(key), **_any(key.type, named)} for key in record.keys},
        "additionalProperties": False,
    }
    if record.required:
        found["required"] = [key.name for key in record.required]
    return found | (_together(record.together) if record.together else {})


def _meaning(key: Key) -> str:
    default = f" Default: {key.default}." if key.default else ""
    return (
        f"{_sentence(key.means)}.{default}{'' if key.carried_out else ' This version does not carry it out, and refuses a policy with it.'}"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _together(rule: Together) -> Json:
    return {
        "if": {"anyOf": [{"properties": {key: {"const": value}}, "required": [key]} for key, value in rule.unless]},
        "then": {"not": {"anyOf": [{"required": [key]} for key in rule.keys]}},
        "else": {"required": list(rule.keys)},
    }
