"""The evaluator against the rules of the IAM User Guide, one example a rule."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.evaluator import Effect, NotJudgeable, Request, arn_like, judge, like

TASK = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/1"


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    """Return a policy of these statements; each allows ecs:StopTask on everything unless it says otherwise."""
    usual = {"Effect": "Allow", "Action": "ecs:StopTask", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [usual | s for s in statements]}


def allows(statement: dict[str, Any], request: Request | None = None, **context: Any) -> bool:
    """Say whether one statement allows a request to stop TASK in this context."""
    asked = request or Request("ecs:StopTask", TASK, {key.replace("__", ":"): v for key, v in context.items()})
    return judge([document(statement)], asked) is Effect.ALLOWED


def test_nothing_is_allowed_by_default():
    assert judge([], Request("ecs:StopTask", TASK)) is Effect.NOT_ALLOWED
    assert judge([document({"Action": "ecs:RunTask"})], Request("ecs:StopTask", TASK)) is Effect.NOT_ALLOWED


def test_a_deny_beats_every_allow_wherever_it_stands():
    both = [document({}, {}), document({"Effect": "Deny", "Action": "ecs:*"})]
    for order in (both, both[::-1]):
        assert judge(order, Request("ecs:StopTask", TASK)) is Effect.DENIED


@pytest.mark.parametrize(
    ("action", "fits"),
    [
        ("ecs:StopTask", True),
        ("ECS:stoptask", True),
        ("ecs:*", True),
        ("ecs:Stop*", True),
        ("ecs:Stop????", True),
        ("*", True),
        (["ecs:RunTask", "ecs:StopTask"], True),
        ("ecs:Stop???", False),
        ("ecs:Run*", False),
        ("dynamodb:*", False),
    ],
)
def test_actions(action, fits):
    assert allows({"Action": action}) is fits


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("*", True),
        (TASK, True),
        ("arn:aws:ecs:*:123456789012:task/*", True),
        ("arn:*:ecs:*:*:*", True),
        ("arn:aws:ecs:eu-west-?:123456789012:task/webordinary/?", True),
        ("arn:aws:ecs:eu-west-1:123456789012:task/webordinary", False),
        ("arn:aws:ecs:eu-west-1:123456789012:task/other/*", False),
        ("arn:aws:*:task/webordinary/1", False),  # a star stays between its colons
        (TASK.upper(), False),
    ],
)
def test_resources(pattern, fits):
    assert allows({"Resource": pattern}) is fits
    assert arn_like(pattern, TASK) is fits


def test_the_last_part_of_an_arn_may_hold_colons():
    assert arn_like(
        "arn:aws:logs:*:*:log-group:/editctl/*", "arn:aws:logs:eu-west-1:1:log-group:/editctl/a:log-stream:b"
    )


@pytest.mark.parametrize(
    ("condition", "given", "holds"),
    [
        ({"StringEquals": {"k": "a"}}, "a", True),
        ({"StringEquals": {"k": "a"}}, "A", False),
        ({"StringEquals": {"K": "a"}}, "a", True),
        ({"StringEquals": {"k": ["a", "b"]}}, "b", True),
        ({"StringEquals": {"k": "a"}}, None, False),
        ({"StringEquals": {"k": "a*"}}, "ab", False),
        ({"StringEqualsIfExists": {"k": "a"}}, None, True),
        ({"StringEqualsIfExists": {"k": "a"}}, "b", False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, "c", True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, "b", False),
        ({"StringNotEquals": {"k": "a"}}, None, True),
        ({"StringLike": {"k": "quarantine#*"}}, "quarantine#x", True),
        ({"StringLike": {"k": "quarantine#*"}}, "pause", False),
        ({"StringNotLike": {"k": "q*"}}, "quarantine#x", False),
        ({"ArnEquals": {"k": "arn:aws:ecs:*:*:cluster/c"}}, "arn:aws:ecs:eu-west-1:1:cluster/c", True),
        ({"ArnLike": {"k": "arn:aws:ecs:*:cluster/c"}}, "arn:aws:ecs:eu-west-1:1:cluster/c", False),
        ({"ArnNotLike": {"k": "arn:aws:ecs:*:*:cluster/c"}}, "arn:aws:ecs:eu-west-1:1:cluster/d", True),
        ({"Bool": {"k": "false"}}, "False", True),
        ({"Bool": {"k": "false"}}, None, False),
        ({"BoolIfExists": {"k": "false"}}, None, True),
        ({"Null": {"k": "true"}}, None, True),
        ({"Null": {"k": "true"}}, "a", False),
        ({"Null": {"k": "false"}}, "a", True),
        ({"Null": {"k": "false"}}, None, False),
        ({"Null": {"k": "false"}}, (), False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, ("a",), True),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, ("a", "c"), False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, None, True),
        ({"ForAllValues:StringLike": {"k": "a*"}}, ("ab", "ac"), True),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, ("c", "a"), True),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, ("c",), False),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, None, False),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, "a", True),
        ({"StringEquals": {"k": "a"}, "Null": {"m": "true"}}, "a", True),
        ({"StringEquals": {"k": "a", "m": "b"}}, "a", False),
    ],
)
def test_conditions(condition, given, holds):
    assert allows({"Condition": condition}, **({} if given is None else {"k": given})) is holds


@pytest.mark.parametrize(
    "statement",
    [
        {"NotAction": "ecs:*"},
        {"NotResource": "*"},
        {"Effect": "Perhaps"},
        {"Condition": {"NumericLessThan": {"k": "1"}}},
        {"Condition": {"StringLike": {"k": "${aws:PrincipalTag/tenant}"}}},
        {"Condition": {"ForAllValues:StringEqualsIfExists": {"k": "a"}}},
        {"Condition": {"Null": {"k": "maybe"}}},
    ],
)
def test_what_is_not_known_is_an_error(statement):
    with pytest.raises(NotJudgeable):
        allows(statement, k="a")


def test_an_old_policy_is_an_error():
    with pytest.raises(NotJudgeable):
        judge([{"Version": "2008-10-17", "Statement": []}], Request("ecs:StopTask"))


def test_one_value_is_not_compared_with_many():
    with pytest.raises(NotJudgeable):
        allows({"Condition": {"StringEquals": {"k": "a"}}}, k=("a", "b"))


def test_a_trust_policy_is_about_who_asks():
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]}
    trust["Statement"][0]["Principal"] = {"Service": ["ecs-tasks.amazonaws.com"]}  # type: ignore[index]
    for service, effect in (("ecs-tasks.amazonaws.com", Effect.ALLOWED), ("ec2.amazonaws.com", Effect.NOT_ALLOWED)):
        assert judge([trust], Request("sts:AssumeRole", principal={"Service": service})) is effect
    assert judge([trust], Request("sts:AssumeRole", principal={"AWS": "ecs-tasks.amazonaws.com"})) is Effect.NOT_ALLOWED


def test_patterns_are_no_regular_expressions():
    assert like("a.c", "a.c")
    assert not like("a.c", "abc")
    assert like("*", "two\nlines")
