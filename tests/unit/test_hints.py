"""What a message in the hint queue hints at; what is no hint is none, whatever it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.aws.hints import parse_hints
from controller.core.reads import Hint

TOM, ANN = "acme-blog-tom", "acme-blog-ann"
ARN = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0123456789abcdef0123456789abcdef"


def record(keys: dict, new: dict | None = None, old: dict | None = None) -> str:
    images = {name: image for name, image in (("NewImage", new), ("OldImage", old)) if image}
    return json.dumps({"eventID": "1", "eventSource": "aws:dynamodb", "dynamodb": {"Keys": keys, **images}})


def touched(session: str = "s1", **more: dict) -> str:
    old = {**row(sessionId=session, containerId=TOM), "lastActivity": {"N": "1"}}
    images = {"NewImage": {**old, "lastActivity": {"N": "2"}, **more}, "OldImage": old}
    return json.dumps({"eventName": "MODIFY", "dynamodb": {"Keys": row(sessionId=session), **images}})


def row(**columns: str) -> dict:
    return {name: {"S": value} for name, value in columns.items()}


def event(containers: object, arn: object = ARN, source: str = "aws.ecs") -> str:
    task = {"taskArn": arn, "lastStatus": "RUNNING", "overrides": {"containerOverrides": containers}}
    return json.dumps({"source": source, "detail-type": "ECS Task State Change", "detail": task})


def variables(**values: str) -> list:
    environment = [{"name": name, "value": value} for name, value in values.items()]
    return [{"name": "edit-container", "environment": environment}]


@pytest.mark.parametrize(
    ("body", "hints"),
    [
        (
            record(row(sessionId="s1"), new=row(sessionId="s1", containerId=TOM)),
            [Hint(TOM, session_ids=frozenset({"s1"}))],
        ),
        (
            record(row(sessionId="s1"), old=row(sessionId="s1", containerId=TOM)),
            [Hint(TOM, session_ids=frozenset({"s1"}))],
        ),
        (
            record(row(sessionId="s1"), new=row(containerId=ANN), old=row(containerId=TOM)),
            [Hint(ANN, session_ids=frozenset({"s1"})), Hint(TOM, session_ids=frozenset({"s1"}))],
        ),
        (record(row(containerId=TOM), new=row(containerId=TOM, taskArn=ARN)), [Hint(TOM)]),
        (record(row(containerId=TOM)), [Hint(TOM)]),
        (touched(), [Hint(TOM, session_ids=frozenset({"s1"}), routine=True)]),
        (touched(wantedUntil={"N": "5"}), [Hint(TOM, session_ids=frozenset({"s1"}))]),
        (event(variables(CONTAINER_ID=TOM, OTHER="x")), [Hint(TOM, task_arns=frozenset({ARN}))]),
    ],
    ids=["opened", "released", "moved", "asked for", "keys only", "touched", "touched and more", "task"],
)
def test_a_hint_names_the_container_and_where_to_look(body, hints):
    assert list(parse_hints(body)) == hints


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "[" * 100_000,
        json.dumps({"Records": []}),
        json.dumps({"dynamodb": None}),
        record(row(name="lease")),
        record({"sessionId": "s1"}, new={"containerId": TOM}),
        record({"sessionId": {"S": "s1"}}, new={"containerId": {"N": "1"}}),
        record(row(sessionId="s1"), new=row(sessionId="s1", containerId="")),
        record(row(sessionId="s1"), new=row(sessionId="s1", containerId="x" * 2_049)),
        event(variables(OTHER="x")),
        event(variables(CONTAINER_ID=TOM), source="my.app"),
        event(variables(CONTAINER_ID=TOM), arn=None),
        event("nonsense"),
        event([None, 1, {"environment": [None, {"name": "CONTAINER_ID", "value": 5}]}]),
        json.dumps({"source": "aws.ecs", "detail": "text"}),
    ],
)
def test_what_is_no_hint_for_us_is_none(body):
    assert parse_hints(body) == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["dynamodb", "Keys", "NewImage", "OldImage", "containerId", "S", "source", "detail", "overrides"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_no_message_is_too_strange(value):
    for hint in parse_hints(json.dumps(value)):
        assert 0 < len(hint.container_id.encode("utf-8", "surrogatepass")) <= 2_048
