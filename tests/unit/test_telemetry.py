"""The log: what a line holds, and what never gets into one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import telemetry
from controller.core.model import Action, ActionKind, Outcome, OutcomeStatus, Reason, Step
from controller.errors import Throttled


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def log_to(log_format: str) -> io.StringIO:
    stream = io.StringIO()
    telemetry.configure(stream, log_format)
    return stream


def action(container_id: str = "acme-blog-tom", message: str = "1 active session") -> Action:
    return Action(ActionKind.START, container_id, Reason.SESSION_ACTIVE, message, step=Step.CLAIM, generation=4)


def done(message: str = "task 3f2c9d, generation 4", status: OutcomeStatus = OutcomeStatus.DONE) -> Outcome:
    return Outcome(action(), status, message, task_arn="arn:aws:ecs:x:1:task/c/3f2c9d", generation=4, seconds=0.2104)


def test_a_line_for_people():
    stream = log_to("text")
    telemetry.outcome(done(), 7)
    time, _, rest = stream.getvalue().partition(" ")
    assert len(time) == 8
    assert rest == "start   acme-blog-tom  SessionActive  task 3f2c9d, generation 4\n"


def test_a_line_for_machines():
    stream = log_to("json")
    telemetry.outcome(done(), 7)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "start",
        "containerId": "acme-blog-tom",
        "reason": "SessionActive",
        "action": "claim",
        "outcome": "done",
        "generation": 4,
        "taskArn": "arn:aws:ecs:x:1:task/c/3f2c9d",
        "seconds": 0.21,
        "round": 7,
        "message": "task 3f2c9d, generation 4",
    }


def test_a_failure_is_a_warning_with_its_code():
    stream = log_to("text")
    error = Throttled("RunTask was throttled", code="ThrottlingException")
    telemetry.outcome(Outcome(action(), OutcomeStatus.FAILED, "RunTask was throttled", error), 1)
    assert stream.getvalue()[9:] == (
        "warning start   acme-blog-tom  SessionActive  failed: RunTask was throttled (ThrottlingException)\n"
    )


def test_a_field_that_is_not_listed_is_not_written():
    stream = log_to("json")
    telemetry.event("x", message="m", token="secret", url="https://user:password@host", containerId=None)
    assert json.loads(stream.getvalue()).keys() == {"time", "level", "event", "message"}


@given(st.text())
def test_no_text_makes_a_second_line_or_a_colour(text):
    for log_format in telemetry.FORMATS:
        stream = log_to(log_format)
        telemetry.outcome(Outcome(action(text, text), OutcomeStatus.FAILED, text), 1)
        lines = stream.getvalue()
        assert lines.count("\n") == 1
        assert lines[:-1].isprintable()


@given(st.text())
def test_what_is_printable_stays_as_it_is(text):
    assert telemetry.escaped(text).isprintable()
    assert not text.isprintable() or telemetry.escaped(text) == text


def test_other_libraries_are_heard_with_their_warnings_only():
    stream = log_to("json")
    logging.getLogger("botocore.auth").debug("signature")
    logging.getLogger("botocore.auth").info("signature")
    logging.getLogger("botocore").warning("a \x1b[31mwarning\nforged")
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "botocore"
    assert json.loads(line)["message"] == "a \\x1b[31mwarning\\nforged"


def test_long_texts_are_cut():
    stream = log_to("json")
    telemetry.event("x", message="m" * 10_000)
    assert len(stream.getvalue()) < 2_200
