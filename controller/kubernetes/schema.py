"""One way from pydantic models to the schemas that Kubernetes takes.

A CustomResourceDefinition wants a *structural* schema: OpenAPI 3.0 without references, in which every value has a type.
pydantic writes JSON Schema with `$defs`, `anyOf` and `null`. `structural` turns the one into the other and raises
ProtocolError for whatever it does not know, so that nothing is lost on the way without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from controller.errors import ProtocolError

Schema = dict[str, Any]

# What pydantic says for readers of JSON Schema only.
_DROPPED = frozenset({"title", "$defs"})
_COPIED = frozenset(
    {"type", "description", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
     "required"}
)  # fmt: skip


def structural(model: type[BaseModel]) -> Schema:
    """Return the structural schema of a model: nested, typed, described. Raises ProtocolError."""
    whole = model.model_json_schema(by_alias=True)
    return _converted(whole, whole.get("$defs", {}), model.__name__)


def _converted(schema: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    schema = _resolved(schema, definitions, path)
    result: Schema = {}
    for key, value in schema.items():
        if key in _COPIED or key.startswith("x-kubernetes-"):
            result[key] = value
        elif key == "default":
            # Nothing is what a field has that is not there.
            if value is not None:
                result[key] = value
        elif key == "properties":
            result[key] = {name: _property(each, definitions, f"{path}.{name}") for name, each in value.items()}
        elif key == "items":
            result[key] = _converted(value, definitions, f"{path}[]")
        elif key not in _DROPPED:
            raise ProtocolError(
                f"{path} uses '{key}', which has no place in a structural schema",
                "Kubernetes would drop it, or refuse the definition",
                "say it as x-kubernetes-validations, or teach controller/kubernetes/schema.py",
            )
    if "type" not in result:
        raise ProtocolError(
            f"{path} has no type", "every value of a structural schema has one", "give the field one type"
        )
    return result


def _property(schema: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    converted = _converted(schema, definitions, path)
    if not converted.get("description"):
        raise ProtocolError(f"{path} has no description", "`kubectl explain` has nothing to say of it", "write one")
    # What a field is comes first for whoever reads the file.
    first = {key: converted.pop(key) for key in ("description", "type")}
    return {**first, **converted}


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    """Return the schema with its reference followed and its branch for null left out; its own words win."""
    own = dict(schema)
    branches = own.pop("anyOf", None)
    if branches is not None:
        real = [b for b in branches if b.get("type") != "null"]
        if len(real) != 1:
            raise ProtocolError(
                f"{path} may be of {len(real)} kinds", "a structural schema has one type for a value", "choose one"
            )
        return _resolved({**real[0], **own}, definitions, path)
    reference = own.pop("$ref", None)
    if reference is not None:
        target = dict(definitions[reference.rpartition("/")[2]])
        # The class says what its values are, the field what it is for.
        return _resolved({**target, **own}, definitions, path)
    return own
