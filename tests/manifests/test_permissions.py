"""The policies against the table of requests, the table against changed policies, and both against IAM's own lists."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from manifests.aws.policies import policy_names, trust_names
from tests.manifests.evaluator import Document, Effect, Test, arn_like, conditions, judge, list_of, statements
from tests.manifests.permissions import Row, TrustRow, policy, rows, trust, trust_rows

TABLE = rows()
TRUSTS = trust_rows()
REFERENCE = json.loads((Path(__file__).parent / "condition_keys.json").read_text(encoding="utf-8"))

MANAGED_POLICY = 6_144
"""Characters in a managed policy, white space apart (IAM quotas)."""


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_role_may_do_what_it_must_and_no_more(row: Row):
    assert judge([policy(name) for name in row.policies], row.request) is row.effect


@pytest.mark.parametrize("row", TRUSTS, ids=str)
def test_a_role_is_taken_by_those_it_is_for(row: TrustRow):
    assert judge([trust(row.trust)], row.request) is row.effect


def test_the_table_is_about_all_policies_and_long_enough():
    written = [row for row in TABLE if ", but " not in row.what]
    assert {name for row in TABLE for name in row.policies} == set(policy_names())
    assert {row.trust for row in TRUSTS} == set(trust_names())
    assert sum(row.effect is Effect.ALLOWED for row in written) >= 40
    assert sum(row.effect is not Effect.ALLOWED for row in written) >= 40
    assert len({str(row) for row in TABLE}) == len(TABLE)


# Teeth: whatever is changed in a policy, a row of the table notices


def mutations(document: Document) -> Iterator[tuple[str, Document]]:
    """Yield a policy with one thing changed, each way in which a hand could slip."""
    for at, statement in enumerate(document["Statement"]):
        sid = statement["Sid"]
        rest = [s for s in document["Statement"] if s is not statement]
        yield f"{sid} removed", {**document, "Statement": rest}
        flipped = "Deny" if statement["Effect"] == "Allow" else "Allow"
        yield f"{sid} becomes {flipped}", _with(document, at, Effect=flipped)
        for element in ("Action", "Resource"):
            if element in statement:
                yield from _other_lists(document, at, element)
        for test in conditions(statement):
            yield from _other_conditions(document, at, test)


def _other_lists(document: Document, at: int, element: str) -> Iterator[tuple[str, Document]]:
    statement = document["Statement"][at]
    values = list_of(statement[element])
    for value in values:
        rest = [v for v in values if v != value]
        if rest:
            yield f"{statement['Sid']} without {value}", _with(document, at, **{element: rest})
        wider = "*" if element == "Resource" else value.partition(":")[0] + ":*"
        if value != wider:
            yield f"{statement['Sid']} {value} becomes {wider}", _with(document, at, **{element: [*rest, wider]})


def _other_conditions(document: Document, at: int, test: Test) -> Iterator[tuple[str, Document]]:
    sid = document["Statement"][at]["Sid"]

    def changed(operator: str | None, values: Any) -> Document:
        def change(d: Any) -> None:
            condition = d["Statement"][at]["Condition"]
            del condition[test.operator][test.key]
            if operator is not None:
                condition.setdefault(operator, {})[test.key] = values

        return _changed(document, change)

    yield f"{sid} without {test.operator} {test.key}", changed(None, None)
    for value in test.values:
        rest = [v for v in test.values if v != value]
        if test.comparison == "Null":
            yield f"{sid} Null {test.key} turned", changed("Null", "true" if value == "false" else "false")
            continue
        yield f"{sid} {test.key} without {value}", changed(test.operator, [*rest, f"not-{value}"])
        if rest:
            yield f"{sid} {test.key} shorter by {value}", changed(test.operator, rest)
    if test.over_sets:
        other = "ForAnyValue" if test.over_sets == "ForAllValues" else "ForAllValues"
        yield f"{sid} {test.key} by {other}", changed(f"{other}:{test.comparison}", list(test.values))
    elif test.comparison != "Null":
        other = test.comparison if test.if_exists else f"{test.comparison}IfExists"
        yield f"{sid} {test.key} by {other}", changed(other, list(test.values))


def _with(document: Document, at: int, **elements: Any) -> Document:
    return _changed(document, lambda d: d["Statement"][at].update(elements))


def _changed(document: Document, change: Callable[[Any], Any]) -> Document:
    copied = copy.deepcopy(dict(document))
    change(copied)
    return copied


@pytest.mark.parametrize("name", policy_names())
def test_the_table_notices_any_change_of_a_policy(name):
    judged = [row for row in TABLE if name in row.policies]
    survivors = []
    for what, changed in mutations(policy(name)):
        documents = {other: changed if other == name else policy(other) for row in judged for other in row.policies}
        if all(judge([documents[n] for n in row.policies], row.request) is row.effect for row in judged):
            survivors.append(what)
    assert survivors == []


@pytest.mark.parametrize("name", trust_names())
def test_the_table_notices_any_change_of_a_trust(name):
    judged = [row for row in TRUSTS if row.trust == name]
    survivors = [
        what
        for what, changed in mutations(trust(name))
        if all(judge([changed], row.request) is row.effect for row in judged)
    ]
    assert survivors == []


# IAM's own lists: a condition on a key that an action does not have is never met, and says so nowhere


def _statements() -> list[tuple[str, Document]]:
    return [(f"{name}: {s['Sid']}", s) for name in policy_names() for s in statements(policy(name))]


@cache
def _documented(action: str) -> tuple[dict[str, str], frozenset[str]]:
    known = REFERENCE["actions"][action]
    return known["resources"], frozenset(key.lower() for key in known["keys"])


def _actions(statement: Document) -> list[str]:
    return [a for a in list_of(statement["Action"]) if "*" not in a]


@pytest.mark.parametrize(("where", "statement"), _statements(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_condition_key_is_one_that_the_action_has(where, statement):
    for test in conditions(statement):
        for action in _actions(statement):
            assert _general(test.key).lower() in _documented(action)[1], f"{action} has no {test.key}"


@pytest.mark.parametrize(("where", "statement"), _statements(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_operator_fits_its_keys_type(where, statement):
    for test in conditions(statement):
        kind = REFERENCE["types"][_general(test.key)]
        if test.comparison == "Null":
            continue
        assert test.comparison.startswith("Arn") is (kind == "ARN"), f"{test.operator} on {test.key}, a {kind}"
        # dynamodb:EnclosingOperation holds one value, and is compared as a set in AWS's own example.
        if test.key != "dynamodb:EnclosingOperation":
            assert bool(test.over_sets) is kind.startswith("ArrayOf"), f"{test.operator} on {test.key}, a {kind}"


@pytest.mark.parametrize(("where", "statement"), _statements(), ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_allowed_is_narrowed_as_far_as_the_action_can_be(where, statement):
    for action in _actions(statement) if statement["Effect"] == "Allow" else ():
        kinds, _ = _documented(action)
        for resource in list_of(statement["Resource"]):
            if resource == "*":
                # ListTasks is about a container instance, if about anything; its cluster is a condition.
                assert not kinds or action == "ecs:ListTasks", f"{action} could be narrowed to {kinds}"
            else:
                assert any(_is_of_kind(resource, kind) for kind in kinds.values()), f"{action} takes no {resource}"


def _is_of_kind(resource: str, kind: str) -> bool:
    pattern, depth = "", 0
    for c in kind:
        depth += (c == "{") - (c == "}")
        pattern += "" if depth or c == "}" else "*" if c == "$" else c
    return arn_like(pattern, resource) or arn_like(pattern, resource.replace("*", "x"))


def _general(key: str) -> str:
    head, _, tail = key.partition("/")
    return f"{head}/${{TagKey}}" if tail else head


@pytest.mark.parametrize("name", policy_names())
def test_only_a_deny_is_written_with_a_star(name):
    stars = {s["Effect"] for s in statements(policy(name)) if any("*" in a for a in list_of(s["Action"]))}
    assert stars <= {"Deny"}


@pytest.mark.parametrize("name", policy_names())
def test_a_policy_fits_into_a_managed_one(name):
    assert len("".join(json.dumps(policy(name)).split())) <= MANAGED_POLICY


def test_the_files_are_laid_out_alike():
    for folder in ("policies", "trusts"):
        for path in (Path(__file__).parents[2] / "manifests" / "aws" / folder).glob("*.json"):
            sids = [s["Sid"] for s in json.loads(path.read_text(encoding="utf-8"))["Statement"]]
            assert len(set(sids)) == len(sids), path.name
            assert all(sid.isalnum() for sid in sids), path.name
