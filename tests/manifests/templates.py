"""The templates that are checked in, as values that can be compared: what CloudFormation fills in becomes a word."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.manifests.permissions import VALUES

FOLDER = Path(__file__).parents[2] / "manifests" / "aws" / "templates"

_PSEUDO = {
    "AWS::AccountId": VALUES["Account"],
    "AWS::Partition": VALUES["Partition"],
    "AWS::Region": VALUES["Region"],
    "AWS::URLSuffix": "amazonaws.com",
}


def names() -> list[str]:
    """Return all templates as `new/data`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def text(name: str) -> str:
    """Return a template as it is checked in."""
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


class Template:
    """One template with its intrinsic functions resolved: a reference becomes `<LogicalId>`, an import `<…>` too."""

    def __init__(self, name: str) -> None:
        self.raw: dict[str, Any] = json.loads(text(name))
        whole: dict[str, Any] = resolved(self.raw)
        self.resources: dict[str, dict[str, Any]] = whole["Resources"]
        self.parameters: dict[str, dict[str, Any]] = whole.get("Parameters", {})
        self.outputs: dict[str, Any] = {
            name: output["Value"] for name, output in whole.get("Outputs", {}).items() if "Export" not in output
        }

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of a type by their logical ids."""
        return {name: found for name, found in self.resources.items() if found["Type"] == f"AWS::{kind}"}

    def one(self, kind: str, begins: str = "") -> dict[str, Any]:
        """Return the properties of the one resource of a type, or of the one whose logical id begins so."""
        (found,) = [r for name, r in self.of(kind).items() if name.startswith(begins)]
        properties: dict[str, Any] = found["Properties"]
        return properties

    def id_of(self, kind: str, begins: str = "") -> str:
        """Return the logical id of the one resource of a type."""
        (found,) = [name for name in self.of(kind) if name.startswith(begins)]
        return found


@cache
def template(name: str) -> Template:
    """Return a template."""
    return Template(name)


def resolved(value: Any) -> Any:
    """Return a template's value with references as words."""
    if isinstance(value, list):
        return [resolved(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((function, argument),) = value.items()
        if function == "Ref":
            return _PSEUDO.get(argument, f"<{argument}>")
        if function == "Fn::GetAtt":
            return f"<{argument[0]}.{argument[1]}>"
        if function == "Fn::ImportValue":
            return f"<{argument}>"
        if function == "Fn::Join":
            return argument[0].join(str(part) for part in resolved(argument[1]))
    return {key: resolved(inner) for key, inner in value.items()}
