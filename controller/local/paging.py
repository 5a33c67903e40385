"""Pages of a list, and the tokens between them; a token is good for the filters that it was given out for."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from controller.local.errors import invalid_parameter
from controller.local.limits import page_size

__all__ = ["next_token", "page", "position"]

T = TypeVar("T")

_NOT_A_FILTER = frozenset({"maxResults", "nextToken"})


def page(items: Sequence[T], params: Mapping[str, Any]) -> tuple[list[T], str | None]:
    """Return the page of a list that the parameters ask for, and the token of the next one."""
    start, size = position(params), page_size(params)
    token = next_token(params, start + size) if start + size < len(items) else None
    return list(items[start : start + size]), token


def position(params: Mapping[str, Any]) -> int:
    """Return where the page that is asked for begins, 0 without a token; refuse a token of another list."""
    token = params.get("nextToken")
    if token is None:
        return 0
    try:
        start, filters = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except ValueError:
        raise invalid_parameter("Invalid token.") from None
    if filters != _filters(params):
        raise invalid_parameter("Invalid token: it was given out for other parameters.")
    return int(start)


def next_token(params: Mapping[str, Any], start: int) -> str:
    """Return the token of the page that begins at a position."""
    return base64.urlsafe_b64encode(json.dumps([start, _filters(params)]).encode()).decode()


def _filters(params: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in params.items() if name not in _NOT_A_FILTER}, sort_keys=True)
