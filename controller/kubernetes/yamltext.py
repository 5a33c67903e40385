"""Write plain values as YAML, without a package for it: what `editctl crd` prints must not need the extra."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z./][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_NOT_TEXT = re.compile(r"(?:true|false|yes|no|on|off|null|y|n)", re.IGNORECASE)
_FOLDABLE = re.compile(r"\S+(?: \S+)*")


def yaml_text(value: Any) -> str:
    """Return the value as a YAML document. Keys keep their order; a long text is folded."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _entry(f"{indent}{_scalar(str(key))}:", each, depth)
    elif isinstance(value, list) and value:
        for each in value:
            first, *rest = _lines(each, depth + 1)
            yield f"{indent}- {first.lstrip()}"
            yield from rest
    else:
        yield indent + _scalar(value)


def _entry(head: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        # A list stands where its key stands, as kubectl writes it.
        yield from _lines(value, depth + (1 if isinstance(value, dict) else 0))
    elif isinstance(value, str) and len(value) + len(head) > WIDTH and _is_foldable(value):
        yield f"{head} >-"
        indent = "  " * (depth + 1)
        yield from textwrap.wrap(
            value,
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    else:
        yield f"{head} {_scalar(value)}"


def _is_foldable(text: str) -> bool:
    # Nothing is escaped in a folded text, and YAML takes no control characters as they are.
    return text.isprintable() and _FOLDABLE.fullmatch(text) is not None


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _NOT_TEXT.fullmatch(value):
        return value
    # A JSON text is a YAML one, but for what YAML wants escaped, and its own way to do so beyond 16 bits.
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in json.dumps(value, ensure_ascii=False))
