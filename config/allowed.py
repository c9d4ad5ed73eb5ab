"""What a field allows, in plain English, read off the field itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from config.base import SYMBOL_PATTERN
from config.sections import INDICATOR_PATTERN, STRATEGY_PATTERN

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "a table",
}
#: What patterns mean, for whoever does not read them.
_PATTERNS = {
    SYMBOL_PATTERN: "3 to 20 capital letters and digits, such as BTCUSDT",
    INDICATOR_PATTERN: "a name of pandas-ta, such as vwma or ema(length=50)",
    STRATEGY_PATTERN: "at most 30 small letters, digits, - and _, a letter first",
}


def allowed(model: type[BaseModel], field: str) -> str:
    """Say what a field of a section allows, for example ``a whole number, at least 2``."""
    try:
        schema = model.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return "another value"
    return _say(schema.get("properties", {}).get(field, {}), schema.get("$defs", {}))


def _say(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _say(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            said = [_say(one, definitions) for one in schema[several] if one.get("type") != "null"]
            return " or ".join(said)
    if "enum" in schema:
        return "one of " + ", ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        return f"a list, each {_say(schema.get('items', {}), definitions)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"a table, each value {_say(schema['additionalProperties'], definitions)}"
    return ", ".join([_TYPES.get(str(kind), "another value"), *_limits(schema)])


def _limits(schema: dict[str, Any]) -> list[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "multipleOf": "a multiple of {}",
    }
    limits = {word: schema[word] for word in words if word in schema}
    # The largest limits only keep numbers inside what a database column holds.
    if limits.get("maximum", 0) >= 10**9:
        del limits["maximum"]
    said = [words[word].format(_short(value)) for word, value in limits.items()]
    if pattern := schema.get("pattern"):
        said.append(_PATTERNS.get(pattern, f"matching {pattern}"))
    return said


def _short(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
