"""A JSON Schema inside a call: the form of a tool's arguments or of an answer. All it says is text, save its own words."""

from __future__ import annotations

from stockade.privacy.extract.call import At, Role
from stockade.privacy.extract.tree import Json
from stockade.privacy.extract.walk import Walk, each, one_of

_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_BELOW = frozenset(
    {
        *("items", "prefixItems", "additionalProperties", "additionalItems", "unevaluatedProperties", "contains", "propertyNames"),
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
    }
)
# Their names are no text of the caller; what they hold is.
_HOLDS = frozenset(
    {
        *("title", "description", "enum", "const", "default", "examples", "example", "required", "pattern", "format", "$ref", "$schema"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems"),
        *("uniqueItems", "nullable", "readOnly", "writeOnly", "deprecated", "propertyOrdering"),
    }
)
_TYPES = ("object", "string", "number", "integer", "boolean", "array", "null")
_type = each(one_of(*_TYPES, *map(str.upper, _TYPES)))


def schema(walk: Walk, node: Json, at: At, role: Role) -> None:
    """A reader."""
    if not isinstance(node, dict):
        if isinstance(node, list):
            each(schema)(walk, node, at, role)
        else:
            walk.data(node, role, at)
        return
    for index, (key, value) in enumerate(node.items()):
        place = (*at, key)
        if key in _NAMED and isinstance(value, dict):
            for number, (name, inner) in enumerate(value.items()):
                walk.text(name, role, (*place, number))
                schema(walk, inner, (*place, name), role)
        elif key in _BELOW:
            schema(walk, value, place, role)
        elif key == "type":
            _type(walk, value, place, role)
        else:
            if key not in _HOLDS:
                walk.text(key, role, (*at, index))
            walk.data(value, role, place)
