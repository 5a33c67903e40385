"""`editctl plan`: exit codes, and that it cannot write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import DAY, HOUR, MINUTE, SECOND, ActionKind
from tests.cli.lab import Account, Lab
from tests.cli.schema import problems

READS = {
    "BatchGetItem",
    "DescribeClusters",
    "DescribeTable",
    "DescribeTaskDefinition",
    "DescribeTasks",
    "GetItem",
    "ListTasks",
    "Scan",
}


def who(name: str) -> ContainerIdentity:
    return ContainerIdentity("acme", name, "tom")


def test_nothing_to_do_is_0(lab: Lab) -> None:
    done = lab.editctl("plan")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [
        "Nothing to do.",
        "To open a session: editctl session open SESSION --client … --project … --user …",
    ]


def test_changes_are_2_and_leave_everything_as_it_is(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    writes = lab.simulation.writes()
    done = lab.editctl("plan")
    assert done.exit_code == 2
    assert "  + start  acme-blog-tom  SessionActive  1 active session, newest 0 s ago" in done.stdout
    assert done.stdout.splitlines()[-1] == "To do this now: editctl apply"
    assert lab.simulation.writes() == writes


def test_bookkeeping_alone_is_0(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    lab.simulation.round()
    lab.clock.step(seconds=2)
    done = lab.editctl("plan")
    assert done.exit_code == 0
    assert "  ~ record  acme-blog-tom  RecordBehind" in done.stdout
    assert "1 record to bring up to date." in done.stdout


@pytest.mark.parametrize(
    ("part", "first"),
    [
        ("read_sessions", "! sessions were seen not at all (page 1 failed: ThrottlingException)"),
        ("read_records", "! records were seen not at all (page 1 failed: ThrottlingException)"),
    ],
)
def test_bad_sight_is_said_first_and_stops_nothing(lab: Lab, part: str, first: str) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.clock.step(hours=2)
    assert "  - drain" in lab.editctl("plan").stdout
    lab.tables.fail(part, times=2)
    done = lab.editctl("plan")
    assert done.exit_code == 1
    assert done.stdout.startswith(first)
    assert not [line for line in done.stdout.splitlines() if line.strip().startswith("-")]


def test_a_pause_is_said_first(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.tables.set_pause("ann", "table restore", lab.clock() + 3 * HOUR)
    done = lab.editctl("plan")
    assert done.stdout.splitlines()[0] == ("! everything is paused until 13:00 by ann: table restore (editctl unpause)")
    assert "Next by itself" not in done.stdout


def test_a_row_that_cannot_be_read_is_a_line(lab: Lab) -> None:
    lab.tables.put_row(
        "sessions", {"sessionId": {"S": "s\n1"}, "containerId": {"S": "a-b-c"}, "lastActivity": {"S": "NaN"}}
    )
    done = lab.editctl("plan")
    assert (
        "  ! row  sessions/s\\n1  RowQuarantined  of a-b-c: lastActivity is of type S, not a number: 'NaN'"
        in done.stdout
    )
    assert "1 unreadable row" in done.stdout


def test_ids_are_whole_and_cannot_forge_lines(lab: Lab) -> None:
    user = "tom" + "m" * 150 + "@acme.com"
    lab.open("s1", "acme", "blog", user)
    lab.tables.put_row(
        "records",
        {"containerId": {"S": "x\x1b[2J\n- drain everything"}, "sessionCount": {"N": "3"}},
    )
    done = lab.editctl("plan")
    assert f"acme-blog-{user}" in done.stdout
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("- ")]


def test_json_is_as_documented(lab: Lab) -> None:
    lab.running("s1", "acme", "blog", "tom")
    lab.open("s2", "acme", "shop", "eva")
    lab.tables.put_row("sessions", {"sessionId": {"S": "bad"}, "lastActivity": {"S": "NaN"}})
    done = lab.editctl("plan", "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 2
    assert problems(document, "plan") == []
    assert {a["containerId"]: a["action"] for a in document["actions"]} == {
        "acme-blog-tom": "keep",
        "acme-shop-eva": "start",
    }
    assert document["sight"] == {"sessions": "fresh", "records": "fresh", "tasks": "fresh"}
    assert (document["summary"]["start"], document["summary"]["keep"]) == (1, 1)
    assert [row["key"] for row in document["unreadable"]] == ["bad"]
    assert document["next"]["reason"] == "Idle"


def test_the_fingerprint_stays_while_only_time_passes(lab: Lab) -> None:
    lab.open("s1", "acme", "blog", "tom")
    first = json.loads(lab.editctl("plan", "--json").stdout)["actions"][0]
    lab.clock.step(seconds=30)
    second = json.loads(lab.editctl("plan", "--json").stdout)["actions"][0]
    lab.open("s2", "acme", "blog", "tom")
    third = json.loads(lab.editctl("plan", "--json").stdout)["actions"][0]
    assert first["fingerprint"] == second["fingerprint"] != third["fingerprint"]


# Through boto3


class Wrote(AssertionError):
    """plan made a call that is not a read."""


@contextmanager
def only_reads(account: Account) -> Iterator[set[str]]:
    """Let every call that is not a read fail before it is sent; give the names of those that are made."""
    made: set[str] = set()

    def watch(model: Any, **_: Any) -> None:
        made.add(model.name)
        if model.name not in READS:
            raise Wrote(model.name)

    clients: list[Any] = [account.clients.dynamodb, account.clients.ecs, account.clients.sqs]
    for client in clients:
        client.meta.events.register("before-call", watch)
    try:
        yield made
    finally:
        for client in clients:
            client.meta.events.unregister("before-call", watch)


def everything_due(account: Account) -> None:
    """Make a world in which each kind of action is due, and what is held, deferred and kept."""
    account.launch(who("adopt"))
    account.launch(who("orphan"))
    tasks = {name: account.launch(who(name)) for name in ("record", "count", "cancel", "drain", "stop", "keep")}
    account.clock.step(minutes=30)
    now = account.clock()

    def named(name: str, status: str, age: int, rows: int = 1, **more: Any) -> None:
        account.put_session(name, who(name), age=age)
        launch = {"requestedAt": now - DAY, "request": "{}"}
        values = {"taskArn": tasks[name], "sessionCount": rows, "lastActivity": now - age, "launch": launch}
        account.put_record(who(name), status, **values, **{"containerIp": account.address(tasks[name]), **more})

    drain = {"id": 1, "reason": "Idle", "requestedAt": now - MINUTE, "deadline": now + MINUTE}
    named("record", "running", SECOND, containerIp="10.0.0.1")
    named("count", "running", SECOND, rows=5)
    named("cancel", "draining", SECOND, drain=drain)
    named("drain", "running", 2 * HOUR)
    named("stop", "stopping", 2 * HOUR, drain={**drain, "stoppingAt": now - MINUTE})
    named("keep", "running", SECOND)
    account.put_session("start", who("start"), age=SECOND)
    account.put_session("adopt", who("adopt"), age=SECOND)
    account.put_session("hold", ContainerIdentity("a-b", "c", "d"), age=SECOND, original=True)
    failure = {"count": 2, "reason": "RESOURCE:CPU", "at": now, "retryAt": now + HOUR}
    account.put_session("defer", who("defer"), age=SECOND)
    account.put_record(who("defer"), "failed", sessionCount=1, lastActivity=now, failure=failure)


def test_plan_is_read_only_whatever_is_due(ready: Account) -> None:
    everything_due(ready)
    with only_reads(ready) as made:
        done = ready.editctl("plan", "--json")
    assert done.exit_code == 2, done.output
    assert {a["action"] for a in json.loads(done.stdout)["actions"]} == {kind.value for kind in ActionKind}
    assert {"Scan", "ListTasks", "DescribeTasks"} <= made <= READS


def test_the_watch_of_that_test_sees_writes(ready: Account) -> None:
    ready.put_session("s1", who("blog"), age=SECOND)
    with only_reads(ready):
        done = ready.editctl("apply", "--no-wait")
    assert done.exit_code == 1
    assert "unexpected Wrote: PutItem" in done.stderr


def test_what_plan_is_made_of_offers_nothing_that_writes(ready: Account) -> None:
    observer = ready.assembly().planner()._observer
    tables = {"get_record", "get_session", "look", "read_notes", "read_records", "read_sessions"}
    for part, reads in (
        (observer._tables, tables | {"read_records_of", "read_sessions_of"}),
        (observer._tasks, {"describe", "sweep"}),
    ):
        assert {name for name in dir(part) if not name.startswith("_")} == reads | {"preflight"}
