"""A saved plan as a file: the JSON that `plan --out` writes and `apply FILE` reads. Its schema is in docs/schemas/."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from controller.cli import documents
from controller.core.model import ActionKind, Millis
from controller.core.saved import Basis, SavedAction, SavedPlan
from controller.core.whereabouts import Whereabouts
from controller.errors import ConfigError, PlanError
from controller.telemetry import iso

VERSION = 1
STANDARD = "-"
"""In place of a file: standard output, or standard input."""
_LARGEST = 64 * 1024 * 1024
"""A file that is larger is no plan of ours: ten thousand actions take 8 MB."""
_TIMES = frozenset({"lastActivity", "wantedUntil", "heldUntil"})
_KINDS = frozenset(kind.value for kind in ActionKind if kind.changes)
_REMAKE = "make a new one: editctl plan --out FILE"


def document(saved: SavedPlan, here: Whereabouts) -> dict[str, Any]:
    """Return the plan as it is written."""
    return {
        "version": VERSION,
        "kind": "saved-plan",
        "madeAt": iso(saved.at),
        "cluster": here.cluster,
        "tables": dict(here.tables),
        "actions": [
            {
                "containerId": a.container_id,
                "action": a.action,
                "reason": a.reason,
                "message": a.message,
                "fingerprint": a.fingerprint,
                "basis": {n: iso(v) if n in _TIMES and isinstance(v, int) else v for n, v in a.basis.items()},
            }
            for a in saved.actions
        ],
    }


def write(name: str, saved: SavedPlan, here: Whereabouts) -> None:
    """Write the plan to a file, whole or not at all. Raises ConfigError when that cannot be done."""
    path = Path(name)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(documents.text(document(saved, here)) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(
            f"the plan cannot be written to '{name}'", error.strerror or str(error), "name another file with --out"
        ) from error


def read(name: str) -> tuple[SavedPlan, Whereabouts]:
    """Return a saved plan and the world that it is of. Raises PlanError, which says what is wrong with the file."""
    try:
        return _parsed(json.loads(_text(name)))
    except _Odd as odd:
        raise PlanError(f"'{name}' is no plan that can be applied", str(odd), _REMAKE) from odd
    except RecursionError as error:
        raise PlanError(f"'{name}' is no plan that can be applied", "it is not a saved plan", _REMAKE) from error
    except ValueError as error:
        raise PlanError(f"'{name}' is no plan that can be applied", f"it is not JSON: {error}", _REMAKE) from error


class _Odd(Exception):
    """What is odd about a document."""


def _text(name: str) -> str:
    try:
        if name == STANDARD:
            return sys.stdin.read(_LARGEST)
        with Path(name).open(encoding="utf-8") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise PlanError(f"the plan '{name}' cannot be read", error.strerror or str(error), _REMAKE) from error


def _parsed(found: Any) -> tuple[SavedPlan, Whereabouts]:
    whole = _map(found, "it")
    if whole.get("kind") != "saved-plan":
        raise _Odd("it is not a saved plan (the output of plan --json is not one)")
    if whole.get("version") != VERSION:
        raise _Odd(f"it is of version {whole.get('version')!r}, this editctl reads version {VERSION}")
    actions = _of(whole, "actions", list)
    tables = {str(name): _of(_map(whole["tables"], "tables"), name, str) for name in _of(whole, "tables", dict)}
    saved = SavedPlan(
        _time(_of(whole, "madeAt", str), "madeAt"),
        _of(whole, "cluster", str),
        tuple(_action(_map(a, f"its action {n}")) for n, a in enumerate(actions, 1)),
    )
    return saved, Whereabouts(saved.cluster, tables)


def _action(found: Mapping[str, Any]) -> SavedAction:
    container_id, action, reason, message, print_ = (
        _of(found, name, str) for name in ("containerId", "action", "reason", "message", "fingerprint")
    )
    if action not in _KINDS:
        raise _Odd(f"its action {action!r} is none of {', '.join(sorted(_KINDS))}")
    return SavedAction(container_id, action, reason, message, print_, _basis(_of(found, "basis", dict)))


def _basis(found: Mapping[str, Any]) -> Basis:
    odd = next((n for n, v in found.items() if not isinstance(v, (str, int, type(None)))), None)
    if odd is not None:
        raise _Odd(f"its basis holds a {odd} that is neither text nor number")
    return {n: _time(v, n) if n in _TIMES and isinstance(v, str) else v for n, v in found.items()}


def _map(found: Any, called: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise _Odd(f"{called} is not an object")
    return found


def _of(found: Mapping[str, Any], name: str, kind: type) -> Any:
    value = found.get(name)
    if not isinstance(value, kind):
        raise _Odd(f"its {name} is missing or of the wrong type")
    return value


def _time(text: str, called: str) -> Millis:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError as error:
        raise _Odd(f"its {called} is no time: {text!r}") from error
