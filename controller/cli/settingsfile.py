"""Settings written into a file that may be there already: what it says beside them, comments too, stays."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.config import toml_line
from controller.errors import ConfigError


def write(name: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """Put these settings into the file, and return which of them it did not hold. Raises ConfigError."""
    path = Path(name)
    text = _text(path)
    there = _parsed(text, path)
    changed = tuple(n for n, v in values.items() if not _same(there.get(n), v))
    if not changed:
        return ()
    merged = _merged(text, {n: values[n] for n in changed})
    if _parsed(merged, path) != {**there, **{n: values[n] for n in changed}}:
        raise ConfigError(
            f"'{path}' cannot be changed by itself",
            "one of its settings takes several lines, or stands in a table",
            "take out the lines of what is to change, or let --from-stack print them and write them by hand",
        )
    _put(path, merged)
    return changed


def _same(there: Any, value: str) -> bool:
    """Whether the file says the same in another type: a list for a comma list, true for "true"."""
    if isinstance(there, list):
        return ",".join(map(str, there)) == value
    return str(there).lower() == value if isinstance(there, bool) else there is not None and str(there) == value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot(path, "read", error) from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _cannot(path, "read", error) from error


def _merged(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        line = toml_line(name, value)
        # In a replacement text a backslash would mean something.
        literal = line.replace("\\", r"\\")
        text, replaced = re.subn(rf"(?m)^[ \t]*{re.escape(name)}[ \t]*=.*$", literal, text, count=1)
        if not replaced:
            text = f"{text.rstrip()}\n{line}\n".lstrip()
    return text


def _put(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _cannot(path, "written", error) from error


def _cannot(path: Path, what: str, error: Exception) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(f"'{path}' cannot be {what}", why, "name another file with --write")
