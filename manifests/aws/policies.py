"""The permissions: policies/*.json and trusts/*.json, one file a role, with their names filled in.

The files are complete policies but for `${Name}`, so they can be read, linted and used without CDK, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_NAME = re.compile(r"\$\{([A-Z][A-Za-z]*)\}")


def policy_names() -> list[str]:
    """Return the names of all policies."""
    return sorted(path.stem for path in (HERE / "policies").glob("*.json"))


def trust_names() -> list[str]:
    """Return the names of all trust policies."""
    return sorted(path.stem for path in (HERE / "trusts").glob("*.json"))


def policy(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a role's policy. Raises KeyError for a name that has no value."""
    return _filled(HERE / "policies" / f"{name}.json", values)


def trust(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return who may take a role. Raises KeyError for a name that has no value."""
    return _filled(HERE / "trusts" / f"{name}.json", values)


def _filled(path: Path, values: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = _replaced(json.loads(path.read_text(encoding="utf-8")), values)
    return document


def _replaced(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_text(key, values): _replaced(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, values) for inner in value]
    return _text(value, values) if isinstance(value, str) else value


def _text(text: str, values: Mapping[str, str]) -> str:
    return _NAME.sub(lambda found: values[found[1]], text)
