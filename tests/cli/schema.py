"""The part of JSON Schema that docs/schemas/ uses, and nothing it does not: an unknown keyword is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
_REMARKS = {"$schema", "$id", "$defs", "title", "description"}


def problems(document: Any, name: str) -> list[str]:
    """Return what of the document does not fit the schema of that name."""
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return list(_check(document, schema, schema.get("$defs", {}), "$"))


def _check(value: Any, schema: Mapping[str, Any], defs: Mapping[str, Any], at: str) -> Iterator[str]:
    wrong_type = list(_type(value, schema["type"], schema, defs, at)) if "type" in schema else []
    if wrong_type:
        # What else is said holds only for values of that type.
        yield from wrong_type
        return
    for keyword, wanted in schema.items():
        if keyword not in _REMARKS:
            yield from _RULES[keyword](value, wanted, schema, defs, at)


def _ref(value: Any, wanted: str, schema: Any, defs: Mapping[str, Any], at: str) -> Iterator[str]:
    yield from _check(value, defs[wanted.removeprefix("#/$defs/")], defs, at)


def _type(value: Any, wanted: str, schema: Any, defs: Any, at: str) -> Iterator[str]:
    if not isinstance(value, _TYPES[wanted]) or (wanted == "integer" and isinstance(value, bool)):
        yield f"{at} is {value!r}, not of type {wanted}"


def _required(value: Any, wanted: list[str], schema: Any, defs: Any, at: str) -> Iterator[str]:
    yield from (f"{at} lacks {name}" for name in wanted if name not in value)


def _properties(value: Any, wanted: Mapping[str, Any], schema: Any, defs: Any, at: str) -> Iterator[str]:
    for name in value.keys() & wanted.keys():
        yield from _check(value[name], wanted[name], defs, f"{at}.{name}")


def _more_properties(value: Any, wanted: Any, schema: Mapping[str, Any], defs: Any, at: str) -> Iterator[str]:
    for name in value.keys() - schema.get("properties", {}).keys():
        if wanted is False:
            yield f"{at} has {name}, which is not documented"
        else:
            yield from _check(value[name], wanted, defs, f"{at}.{name}")


def _items(value: Any, wanted: Mapping[str, Any], schema: Any, defs: Any, at: str) -> Iterator[str]:
    for position, item in enumerate(value):
        yield from _check(item, wanted, defs, f"{at}[{position}]")


def _any_of(value: Any, wanted: list[Mapping[str, Any]], schema: Any, defs: Any, at: str) -> Iterator[str]:
    tried = [list(_check(value, option, defs, at)) for option in wanted]
    if all(tried):
        yield from min(tried, key=len)


def _enum(value: Any, wanted: list[Any], schema: Any, defs: Any, at: str) -> Iterator[str]:
    if value not in wanted:
        yield f"{at} is {value!r}, none of {wanted}"


def _const(value: Any, wanted: Any, schema: Any, defs: Any, at: str) -> Iterator[str]:
    if value != wanted:
        yield f"{at} is {value!r}, not {wanted!r}"


def _pattern(value: Any, wanted: str, schema: Any, defs: Any, at: str) -> Iterator[str]:
    if not re.search(wanted, str(value)):
        yield f"{at} is {value!r}, not like {wanted}"


def _minimum(value: Any, wanted: int, schema: Any, defs: Any, at: str) -> Iterator[str]:
    if value < wanted:
        yield f"{at} is {value}, below {wanted}"


_RULES: Mapping[str, Callable[[Any, Any, Any, Any, str], Iterator[str]]] = {
    "$ref": _ref,
    "type": _type,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _more_properties,
    "items": _items,
    "anyOf": _any_of,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minimum": _minimum,
}
