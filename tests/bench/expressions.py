"""What condition, filter and update expressions mean: as much of DynamoDB's language as the callers here speak."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Value = Mapping[str, Any]
Item = Mapping[str, Value]
Predicate = Callable[[Item], bool]
_Operand = Callable[[Item], Value | None]

_TOKEN = re.compile(r"\s*([#:]?\w+|<=|>=|<>|[=<>(),.+-])")
_CLAUSE = re.compile(r"\b(SET|REMOVE|ADD)\b")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str, names: Mapping[str, str], values: Mapping[str, Value]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self._names = names
        self._values = values

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise ValueError(f"expected {expected or 'more'}, found {token or 'the end'}")
        self._at += 1
        return token

    def takes(self, token: str) -> bool:
        found = self.next == token
        self._at += found
        return found

    # Conditions

    def either(self) -> Predicate:
        found = [self._both()]
        while self.takes("OR"):
            found.append(self._both())
        return found[0] if len(found) == 1 else lambda item: any(p(item) for p in found)

    def _both(self) -> Predicate:
        found = [self._not()]
        while self.takes("AND"):
            found.append(self._not())
        return found[0] if len(found) == 1 else lambda item: all(p(item) for p in found)

    def _not(self) -> Predicate:
        if self.takes("NOT"):
            inner = self._not()
            return lambda item: not inner(item)
        if self.takes("("):
            found = self.either()
            self.take(")")
            return found
        return self._function() if self.next.startswith("attribute_") else self._comparison()

    def _function(self) -> Predicate:
        name = self.take()
        self.take("(")
        path = self.operand()
        kind = ""
        if name == "attribute_type":
            self.take(",")
            kind = self._values[self.take()]["S"]
        self.take(")")
        if name == "attribute_type":
            return lambda item: kind in (path(item) or {})
        wanted = {"attribute_exists": True, "attribute_not_exists": False}[name]
        return lambda item: (path(item) is not None) is wanted

    def _comparison(self) -> Predicate:
        left = self.operand()
        if self.takes("IN"):
            self.take("(")
            right = [self.operand()]
            while self.takes(","):
                right.append(self.operand())
            self.take(")")
            known = {_key(o({})) for o in right}
            return lambda item: _key(left(item)) in known and left(item) is not None
        sign = self.take()
        other = self.operand()
        if sign in ("=", "<>"):
            return lambda item: (_key(left(item)) == _key(other(item)) and left(item) is not None) is (sign == "=")
        return lambda item: _ordered(left(item), other(item), _COMPARISONS[sign])

    # Values

    def operand(self) -> _Operand:
        if self.next == "if_not_exists":
            self.take()
            self.take("(")
            there = self.operand()
            self.take(",")
            otherwise = self.operand()
            self.take(")")
            return lambda item: there(item) or otherwise(item)
        if self.next.startswith(":"):
            value = self._values[self.take()]
            return lambda _: value
        path = self.path()
        return lambda item: _found(item, path)

    def path(self) -> tuple[str, ...]:
        names = [self._name()]
        while self.takes("."):
            names.append(self._name())
        return tuple(names)

    def _name(self) -> str:
        token = self.take()
        return self._names[token] if token.startswith("#") else token


def predicate(text: str | None, request: Mapping[str, Any]) -> Predicate:
    """Return what a condition or filter expression says of an item; without one, everything holds."""
    if not text:
        return lambda _: True
    reader = _reader(text, request)
    found = reader.either()
    if reader.next:
        raise ValueError(f"{reader.next} comes after the end of {text}")
    return found


def updated(item: Item, text: str | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the item with an update expression carried out; every clause sees the item as it was."""
    changed = {name: {"M": dict(value["M"])} if "M" in value else value for name, value in item.items()}
    clauses = _CLAUSE.split(text or "")[1:]
    for kind, body in zip(clauses[::2], clauses[1::2], strict=True):
        reader = _reader(body, request)
        _clause(kind, reader, item, changed)
        while reader.takes(","):
            _clause(kind, reader, item, changed)
    return changed


def _clause(kind: str, reader: _Reader, item: Item, changed: dict[str, Any]) -> None:
    path = reader.path()
    parent = _parent(changed, path)
    if kind == "REMOVE":
        if parent is not None:
            parent.pop(path[-1], None)
        return
    if parent is None:
        raise ValueError("The document path provided in the update expression is invalid for update")
    if kind == "SET":
        reader.take("=")
    value = reader.operand()(item)
    if kind == "ADD":
        before = Decimal((_found(item, path) or {"N": "0"})["N"])
        value = {"N": str(before + Decimal((value or {"N": "0"})["N"]))}
    parent[path[-1]] = value


def _reader(text: str, request: Mapping[str, Any]) -> _Reader:
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    return _Reader(text, names, values)


def _parent(item: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    if len(path) == 1:
        return item
    inner = item.get(path[0], {}).get("M")
    return inner if isinstance(inner, dict) else None


def _found(item: Item, path: tuple[str, ...]) -> Value | None:
    value = item.get(path[0])
    for name in path[1:]:
        value = (value or {}).get("M", {}).get(name)
    return value


def _key(value: Value | None) -> Any:
    """Return what two values are equal by: numbers by their worth, everything else by its text."""
    if value is None:
        return None
    return ("N", Decimal(value["N"])) if "N" in value else repr(sorted(value.items()))


def _ordered(a: Value | None, b: Value | None, comparison: Callable[[Any, Any], bool]) -> bool:
    if a is None or b is None or a.keys() != b.keys():
        return False
    (kind, left), right = next(iter(a.items())), next(iter(b.values()))
    return comparison(Decimal(left), Decimal(right)) if kind == "N" else comparison(left, right)
