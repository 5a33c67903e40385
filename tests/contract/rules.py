"""A rule is a test that names the public source of what it asks for, and runs on every engine alike."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from botocore.loaders import Loader

_F = TypeVar("_F", bound=Callable[..., object])

_BOOKS = {"ecs": "Amazon ECS API Reference", "dynamodb": "Amazon DynamoDB API Reference"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a promise is written, and its words. `model` is the place of the same words in the SDK's service model."""

    where: str
    words: str
    model: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A promise: one sentence, and where it is from."""

    name: str
    sentence: str
    source: Source


def api(service: str, what: str, words: str) -> Source:
    """Return words of an API reference: of an operation (`RunTask`), a shape, or its member (`Failure.reason`)."""
    shape, _, member = what.partition(".")
    page = re.sub(r"(Request|Response|Input|Output)$", "", shape) if member else shape
    return Source(f"{_BOOKS[service]}, {page}{member and ', ' + member}", words, (service, what))


def page(where: str, words: str) -> Source:
    """Return words of a page, or of an issue that shows AWS's own answer."""
    return Source(where, words)


def rule(source: Source) -> Callable[[_F], _F]:
    """Make a test a rule; its docstring is the sentence."""

    def mark(function: _F) -> _F:
        assert function.__doc__, f"{function.__name__} says nothing"
        sentence = " ".join(function.__doc__.split())
        function.rule = Rule(function.__name__.removeprefix("test_"), sentence, source)  # type: ignore[attr-defined]
        return function

    return mark


def rules_of(module: ModuleType) -> Mapping[str, Rule]:
    """Return the rules of a module by name, in the order in which they stand there."""
    found = (getattr(value, "rule", None) for value in vars(module).values())
    return {each.name: each for each in found if isinstance(each, Rule)}


@cache
def _model(service: str) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = Loader().load_service_model(service, "service-2")
    return loaded


def documented(service: str, what: str) -> str:
    """Return what the SDK's service model says of an operation, a shape or a member, as plain text."""
    model = _model(service)
    shape, _, member = what.partition(".")
    if shape in model["operations"]:
        described = model["operations"][shape]
    else:
        described = model["shapes"][shape]
    text: str = (described["members"][member] if member else described).get("documentation", "")
    # A shape may say its limits in its own members, as TagKey does.
    limits = " ".join(f"{name} {described[name]}" for name in ("min", "max", "pattern") if name in described)
    return plain(f"{text} {limits}")


def plain(text: str) -> str:
    """Return a text without its markup, with single spaces and none before a comma."""
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    return re.sub(r"\s+([.,;:)])|(\()\s+", r"\1\2", words)
