"""IAM's decision about one request, as far as our policies use its language.

What is not known here (an element, an operator, a policy variable) is an error and never silently false: a policy that
says more than this can judge must not pass for judged. The rules are those of the IAM User Guide, "Policy evaluation
logic", "Condition operators" and "Conditions with multiple context keys or values".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

Document = Mapping[str, Any]
Value = str | Sequence[str]

_ARN_PARTS = 6


class Effect(StrEnum):
    """What a policy says of a request."""

    ALLOWED = "allowed"
    DENIED = "denied"
    """By a statement that denies."""
    NOT_ALLOWED = "not allowed"
    """No statement allows it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: an action on a resource, and the context that IAM compares conditions with."""

    action: str
    resource: str = "*"
    context: Mapping[str, Value] = field(default_factory=dict)
    principal: Mapping[str, str] = field(default_factory=dict)
    """Who asks, for trust policies: `{"Service": "ecs-tasks.amazonaws.com"}`."""


class NotJudgeable(ValueError):
    """The policy says something that this evaluator does not know."""


def judge(documents: Sequence[Document], request: Request) -> Effect:
    """Return what the policies of one identity say together: a Deny wins, else one Allow is enough."""
    effects = {_effect(s) for document in documents for s in statements(document) if _applies(s, request)}
    if "Deny" in effects:
        return Effect.DENIED
    return Effect.ALLOWED if "Allow" in effects else Effect.NOT_ALLOWED


def statements(document: Document) -> list[Document]:
    """Return a policy's statements. Raises NotJudgeable for elements that are not known here."""
    if document.get("Version") != "2012-10-17" or document.keys() - {"Version", "Id", "Statement"}:
        raise NotJudgeable(f"a policy of version {document.get('Version')} with {sorted(document)}")
    found = list_of(document["Statement"])
    for statement in found:
        unknown = statement.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        if unknown:
            raise NotJudgeable(f"statement {statement.get('Sid')} has {sorted(unknown)}")
    return found


def list_of(value: Any) -> list[Any]:
    """Return what may be written as one value or as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _effect(statement: Document) -> str:
    effect = str(statement["Effect"])
    if effect not in ("Allow", "Deny"):
        raise NotJudgeable(f"effect {effect}")
    return effect


def _applies(statement: Document, request: Request) -> bool:
    return (
        _principal_fits(statement, request)
        and any(like(pattern.lower(), request.action.lower()) for pattern in list_of(statement["Action"]))
        and _resource_fits(statement, request)
        and all(_condition_holds(test, request) for test in conditions(statement))
    )


def _principal_fits(statement: Document, request: Request) -> bool:
    if "Principal" not in statement:
        return not request.principal
    wanted = statement["Principal"]
    if wanted == "*":
        return True
    return any(who in list_of(wanted.get(kind, [])) for kind, who in request.principal.items())


def _resource_fits(statement: Document, request: Request) -> bool:
    if "Resource" not in statement:
        if "Principal" not in statement:
            raise NotJudgeable(f"statement {statement.get('Sid')} has no Resource")
        return True
    return any(arn_like(pattern, request.resource) for pattern in list_of(statement["Resource"]))


# Conditions


@dataclass(frozen=True, slots=True)
class Test:
    """One operator, one key and the values it is compared with; all tests of a statement must hold."""

    __test__ = False  # pytest looks at names

    operator: str
    key: str
    values: tuple[str, ...]

    @property
    def comparison(self) -> str:
        """The operator without its set prefix and its IfExists."""
        return self.operator.rpartition(":")[2].removesuffix("IfExists")

    @property
    def over_sets(self) -> str:
        """`ForAllValues`, `ForAnyValue` or nothing."""
        return self.operator.rpartition(":")[0]

    @property
    def if_exists(self) -> bool:
        """Whether a missing key makes it true."""
        return self.operator.endswith("IfExists")


def conditions(statement: Document) -> Iterator[Test]:
    """Yield the tests of a statement's condition."""
    for operator, tests in statement.get("Condition", {}).items():
        for key, values in tests.items():
            yield Test(operator, key, tuple(str(v) for v in list_of(values)))


def _condition_holds(test: Test, request: Request) -> bool:
    # Keys are compared without case, values with it.
    given = next((v for key, v in request.context.items() if key.lower() == test.key.lower()), None)
    if test.comparison == "Null":
        return _null(test, given)
    compare = _comparison(test)
    if test.over_sets:
        return _set_holds(test, () if given is None else list_of(given), compare)
    if given is None:
        # A negated comparison with nothing is true.
        return test.if_exists or "Not" in test.comparison
    if not isinstance(given, str):
        raise NotJudgeable(f"{test.key} has several values, and {test.operator} is for one")
    return _any_or_none(test, given, compare)


def _null(test: Test, given: Value | None) -> bool:
    if test.operator != "Null" or test.values not in (("true",), ("false",)):
        raise NotJudgeable(f"{test.operator} {test.key} {test.values}")
    return (given is None or given == ()) is (test.values == ("true",))


def _set_holds(test: Test, given: Sequence[str], compare: Callable[[str, str], bool]) -> bool:
    if test.if_exists:
        raise NotJudgeable(test.operator)
    held = (_any_or_none(test, one, compare) for one in given)
    if test.over_sets == "ForAllValues":
        # True of no values at all, too: hence a Null test beside it where that would open something.
        return all(held)
    if test.over_sets == "ForAnyValue":
        return any(held)
    raise NotJudgeable(test.operator)


def _any_or_none(test: Test, given: str, compare: Callable[[str, str], bool]) -> bool:
    found = any(compare(value, given) for value in test.values)
    return not found if "Not" in test.comparison else found


def _comparison(test: Test) -> Callable[[str, str], bool]:
    if any(_VARIABLE.search(value) for value in test.values):
        raise NotJudgeable(f"a policy variable in {test.key}")
    compare = {
        "StringEquals": str.__eq__,
        "StringNotEquals": str.__eq__,
        "StringLike": like,
        "StringNotLike": like,
        "ArnEquals": arn_like,
        "ArnLike": arn_like,
        "ArnNotEquals": arn_like,
        "ArnNotLike": arn_like,
        "Bool": _same_bool,
    }.get(test.comparison)
    if compare is None:
        raise NotJudgeable(test.operator)
    return compare


_VARIABLE = re.compile(r"\$\{")


def _same_bool(wanted: str, given: str) -> bool:
    return wanted.lower() == given.lower()


# Patterns


def like(pattern: str, text: str) -> bool:
    """Say whether a text fits a pattern with `*` and `?`."""
    return _pattern(pattern).fullmatch(text) is not None


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    plain = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.compile(plain, re.DOTALL)


def arn_like(pattern: str, arn: str) -> bool:
    """Say whether an ARN fits a pattern; a `*` stays within its part between two colons, but for the last part."""
    if pattern == "*":
        return True
    wanted, given = pattern.split(":", _ARN_PARTS - 1), arn.split(":", _ARN_PARTS - 1)
    return len(wanted) == len(given) and all(like(w, g) for w, g in zip(wanted, given, strict=True))
