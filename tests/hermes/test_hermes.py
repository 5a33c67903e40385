"""The chat service's TypeScript keeps docs/protocol.md: with a controller beside it, alone, and beside the original.

Nothing here waits: the clock of tasks, controller and service is the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controller.aws.rows import to_iso
from controller.core.identity import ContainerIdentity
from controller.errors import InvalidIdentity
from tests.hermes.driver import SIGNAL, Call, Driver, Refused, original, ours
from tests.hermes.world import World

# The first test of a run may have to fetch the packages.
pytestmark = pytest.mark.timeout(180)

ID = "acme-blog-tom"
TRIPLE = {"clientId": "acme", "projectId": "blog", "userId": "tom"}
SECOND = 1000
MINUTE = 60 * SECOND
ARN = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0123456789abcdef0123456789abcdef"


def get(within: int = MINUTE, **options: Any) -> Call:
    """Return the call that gets Tom's container."""
    return ours("getOrCreateContainer", "acme", "blog", "tom", {"withinMs": within, **options})


def assign(session: str, container: Any = TRIPLE, **options: Any) -> Call:
    """Return the call that opens a session, on Tom's container unless told otherwise."""
    return ours("assignSessionToContainer", session, container, options)


def touch(session: str) -> Call:
    """Return the call that touches a session."""
    return ours("touchSession", session)


def release(session: str) -> Call:
    """Return the call that releases a session."""
    return ours("releaseSession", session)


def refused(hermes: Driver, call: Call, meanwhile: Callable[[], object] = lambda: None) -> Refused:
    """Return what the call is rejected with."""
    with pytest.raises(Refused) as caught:
        hermes(call, meanwhile)
    return caught.value


# Get or create


def test_a_container_is_asked_for_started_and_given(hermes: Driver, world: World):
    asked = world.clock.now()
    container = hermes(get(), world.round)
    [task] = world.tasks()
    assert container == {
        **TRIPLE,
        "containerId": ID,
        "taskArn": task["taskArn"],
        "containerIp": world.rows.record(ID)["containerIp"],
        "generation": 1,
    }
    assert container["containerIp"].count(".") == 3
    assert world.rows.record(ID)["wantedUntil"] == asked + MINUTE
    assert world.rows.sessions(ID) == []


def test_two_calls_at_once_get_one_task(hermes: Driver, world: World):
    first, second = hermes.together(get(), get(), meanwhile=world.round)
    assert first == second
    assert [task["taskArn"] for task in world.tasks()] == [first["taskArn"]]


def test_a_container_that_runs_is_given_at_once(hermes: Driver, world: World):
    container = hermes(get(10 * MINUTE), world.round)
    wanted = world.rows.record(ID)["wantedUntil"]
    later = world.clock.step(minutes=2)
    pauses = len(hermes.pauses)
    assert hermes(get(SECOND)) == container
    assert len(hermes.pauses) == pauses
    # The fence moves, the wish is never shortened.
    assert (world.rows.record(ID)["lastActivity"], world.rows.record(ID)["wantedUntil"]) == (later, wanted)


def test_a_wish_alone_keeps_the_container_until_it_is_idle(hermes: Driver, world: World):
    hermes(get(), world.round)
    world.clock.step(minutes=2)
    world.rest()
    world.clock.step(minutes=15)
    world.rest()
    assert world.rows.record(ID)["containerStatus"] == "running"
    world.clock.step(minutes=10)
    world.rest()
    assert world.rows.record(ID)["containerStatus"] == "terminated"


def test_without_a_controller_it_is_not_ready_in_time(hermes: Driver, world: World):
    asked = world.clock.now()
    error = refused(hermes, get(3 * SECOND))
    assert error.name == "NotReadyInTime"
    assert "is a controller running?" in error.why
    assert error.todo == f"editctl explain {ID}"
    assert world.clock.now() - asked == 3 * SECOND
    assert hermes.pauses == [500] * 6
    # The wish stays: a controller that comes back in time would start it.
    assert world.rows.record(ID)["wantedUntil"] == asked + 3 * SECOND


def test_a_launch_that_is_not_tried_again_in_time_has_failed(hermes: Driver, world: World):
    world.faults.refuse_placement(times=9)
    error = refused(hermes, get(6 * SECOND), world.round)
    assert error.name == "LaunchFailed"
    assert "capacity" in error.why.lower()
    assert len(hermes.pauses) < 4
    world.faults.clear()
    assert hermes(get(), world.round)["generation"] == 2


@pytest.mark.parametrize("how", ["hold", "pause", "broken pause"])
def test_a_hold_forbids_a_start(hermes: Driver, world: World, how: str):
    until = world.clock.now() + 10 * MINUTE
    if how == "hold":
        world.rows.change(ID, hold={"by": "ann", "reason": "migration", "until": until})
    elif how == "pause":
        world.tables.set_pause("ann", "migration", until)
    else:
        world.rows.put(world.rows.names.controller, name="pause", until="soon")
    error = refused(hermes, get(), world.round)
    assert error.name == "Held"
    assert hermes.pauses == []
    assert world.tasks() == []
    if how != "broken pause":
        assert "by ann" in error.what
        assert error.why == "migration; for another 10 min"
        world.clock.step(minutes=11)
        assert hermes(get(), world.round)["containerId"] == ID


def test_a_hold_does_not_hide_a_container_that_runs(hermes: Driver, world: World):
    container = hermes(get(), world.round)
    world.rows.change(ID, hold={"by": "ann", "reason": "look", "until": world.clock.now() + MINUTE})
    assert hermes(get()) == container


def test_a_declaration_says_stopped(hermes: Driver, world: World):
    world.rows.change(ID, declared={"uid": "u1", "generation": 1, "runPolicy": "Stopped"})
    assert refused(hermes, get()).name == "StoppedByDeclaration"


def test_an_aborted_wait_ends_with_its_own_reason(hermes: Driver, world: World):
    error = refused(hermes, get(MINUTE, **SIGNAL), lambda: hermes.abort("the user closed the window"))
    assert error.what == "the user closed the window"
    assert hermes.pauses == [500]


@pytest.mark.parametrize("within", [0, 999, 1000.5, 30 * MINUTE + 1])
def test_a_wait_out_of_range_is_refused_before_anything_is_written(hermes: Driver, world: World, within: float):
    call = ours("getOrCreateContainer", "acme", "blog", "tom", {"withinMs": within})
    assert refused(hermes, call).name == "RangeError"
    assert world.rows.record(ID) == {}


# Sessions


def test_a_session_is_opened_touched_and_released_however_often(hermes: Driver, world: World):
    container = hermes(get(), world.round)
    queues = {"inputQueueUrl": "https://queues.example/in", "outputQueueUrl": "https://queues.example/out"}
    opened = world.clock.step(seconds=1)
    assert [hermes(assign("s1", container, **queues)) for _ in range(3)] == [True, False, False]
    assert world.rows.session("s1") == {
        "sessionId": "s1",
        "containerId": ID,
        **queues,
        "createdAt": to_iso(opened),
        "lastActivity": opened,
        **TRIPLE,
    }
    assert world.rows.record(ID)["sessionCount"] == 1

    touched = world.clock.step(minutes=1)
    assert [hermes(touch("s1")) for _ in range(2)] == [None, None]
    assert world.rows.session("s1")["lastActivity"] == world.rows.record(ID)["lastActivity"] == touched

    released = world.clock.step(minutes=1)
    assert [hermes(release("s1")) for _ in range(3)] == [True, False, False]
    assert world.rows.record(ID)["lastActivity"] == released
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (0, [])


def test_late_calls_revive_and_count_nothing(hermes: Driver, world: World):
    hermes(assign("s1"))
    hermes(release("s1"))
    before = world.rows.all()
    world.clock.step(seconds=1)
    assert refused(hermes, touch("s1")).name == "SessionNotFound"
    assert hermes(release("s1")) is False
    assert world.rows.all() == before


def test_a_touch_moves_time_back_when_its_clock_is_behind(hermes: Driver, world: World):
    hermes(assign("s1"))
    behind = world.clock.step(seconds=-30)
    hermes(touch("s1"))
    assert world.rows.session("s1")["lastActivity"] == world.rows.record(ID)["lastActivity"] == behind


def test_a_touch_without_a_record_finds_no_session(hermes: Driver, world: World):
    hermes(assign("s1"))
    world.rows.drop(world.rows.names.containers, ID)
    error = refused(hermes, touch("s1"))
    assert (error.name, error.why) == ("SessionNotFound", "the container has no record")
    assert world.rows.record(ID) == {}


def test_a_session_belongs_to_one_container(hermes: Driver, world: World):
    hermes(assign("s1"))
    other = {**TRIPLE, "projectId": "shop"}
    error = refused(hermes, assign("s1", other))
    assert (error.name, error.what) == ("SessionExists", f'session "s1" is open on container "{ID}"')
    assert world.rows.record("acme-shop-tom") == {}


@pytest.mark.parametrize("count", [None, 0, -2])
def test_a_release_floors_a_count_that_was_wrong(hermes: Driver, world: World, count: int | None):
    hermes(assign("s1"))
    world.rows.change(ID, sessionCount=count)
    assert hermes(release("s1")) is True
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (0, [])


def test_calls_at_once_count_each_session_once(hermes: Driver, world: World):
    answers = hermes.together(*(assign(f"s{n % 4}") for n in range(12)))
    assert sorted(answers) == [False] * 8 + [True] * 4
    assert world.rows.record(ID)["sessionCount"] == 4
    answers = hermes.together(*(release(f"s{n % 4}") for n in range(12)))
    assert sum(answers) == 4
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (0, [])


def test_an_open_session_keeps_its_container_and_a_touch_keeps_it_longer(hermes: Driver, world: World):
    hermes(get(), world.round)
    hermes(assign("s1"))
    for _ in range(3):
        world.clock.step(minutes=15)
        hermes(touch("s1"))
        world.rest()
    assert world.rows.record(ID)["containerStatus"] == "running"
    world.clock.step(minutes=25)
    world.rest()
    assert world.rows.record(ID)["containerStatus"] == "terminated"
    # The next message finds the session still open, and its touch brings the container back.
    hermes(touch("s1"))
    assert hermes(get(), world.round)["generation"] == 2


# Whose container


def test_another_triple_on_the_same_id_is_refused(hermes: Driver, world: World):
    hermes(assign("s1", {"clientId": "acme", "projectId": "blog-de", "userId": "tom"}))
    before = world.rows.all()
    other = {"clientId": "acme-blog", "projectId": "de", "userId": "tom"}
    error = refused(hermes, assign("s2", other))
    assert error.name == "IdentityConflict"
    assert error.what.endswith("belongs to acme + blog-de + tom")
    assert refused(hermes, ours("getOrCreateContainer", *other.values(), {})).name == "IdentityConflict"
    assert refused(hermes, assign("s1", other)).name == "IdentityConflict"
    assert world.rows.all() == before


def test_a_bare_container_id_is_the_triple_of_its_record(hermes: Driver, world: World):
    triple = {"clientId": "acme", "projectId": "blog-de", "userId": "tom"}
    assert refused(hermes, assign("s1", "acme-blog-de-tom")).name == "InvalidIdentity"
    hermes(assign("s1", triple))
    assert hermes(assign("s2", "acme-blog-de-tom")) is True
    assert {**world.rows.session("s2"), **triple} == world.rows.session("s2")
    assert hermes(assign("s3", "acme-shop-tom")) is True
    assert world.rows.session("s3")["projectId"] == "shop"


ACCENT = "e\N{COMBINING ACUTE ACCENT}"
PARTS = [
    "tom",
    "Größe 東京",
    "tom@acme.com",
    "",
    ACCENT,
    "é",
    "a\tb",
    "a\x7fb",
    "a\x9fb",
    "a\N{ZERO WIDTH JOINER}b",
    "\ud800",
    "😀",
    "x" * 246,
    "x" * 247,
    "!" * 82,
    "!" * 83,
    "😀" * 20,
    "😀" * 21,
    "é" * 246,
]


def test_an_identity_is_taken_or_refused_as_the_controller_would(hermes: Driver, world: World):
    taken = []
    for number, part in enumerate(PARTS):
        call = assign(f"s{number}", {**TRIPLE, "userId": part})
        try:
            container_id = ContainerIdentity("acme", "blog", part).container_id
        except InvalidIdentity:
            assert refused(hermes, call).name == "InvalidIdentity", ascii(part)
        else:
            assert hermes(call) is True, ascii(part)
            assert world.rows.record(container_id)["userId"] == part
            taken.append(part)
    assert {row["userId"] for row in world.rows.all()[world.rows.names.sessions]} == set(taken)
    assert 5 < len(taken) < len(PARTS) - 5


def test_the_client_id_may_begin_like_a_reserved_tag(hermes: Driver):
    # 256 characters as a tag, in which the first of "aws:" takes three.
    fits = {"clientId": "aWs:", "projectId": "p", "userId": "x" * 247}
    assert hermes(assign("s1", fits)) is True
    assert refused(hermes, assign("s2", {**fits, "userId": "x" * 248})).name == "InvalidIdentity"


# When DynamoDB is in the way


def test_a_conflict_is_tried_again_five_times_in_all(hermes: Driver, world: World):
    cancelled = "TransactionCanceledException"
    hermes.trouble("TransactWriteItems", cancelled, times=4, reasons=["None", "TransactionConflict"])
    assert hermes(assign("s1")) is True
    assert hermes.pauses == [75, 150, 300, 600]
    hermes.trouble("TransactWriteItems", cancelled, times=5, reasons=["TransactionConflict", "ConditionalCheckFailed"])
    assert refused(hermes, touch("s1")).name == "TransactionConflict"
    for name in ("TransactionConflictException", "TransactionInProgressException"):
        hermes.trouble("TransactWriteItems", name)
        assert hermes(touch("s1")) is None
    hermes.trouble("UpdateItem", "TransactionConflictException")
    assert refused(hermes, get(SECOND)).name == "NotReadyInTime"
    assert world.rows.record(ID)["sessionCount"] == 1


@pytest.mark.parametrize("call", [assign("s1"), touch("s0"), release("s0"), get(SECOND)], ids=lambda call: call.method)
def test_a_call_whose_answer_was_lost_can_be_sent_again(hermes: Driver, world: World, call: Call):
    hermes(assign("s0"))
    command = "UpdateItem" if call.method.startswith("get") else "TransactWriteItems"
    hermes.trouble(command, "TimeoutError", afterwards=True)
    assert refused(hermes, call).name == "TimeoutError"
    written = world.rows.all()
    if call.method.startswith("get"):
        world.rows.change(ID, containerStatus="running", taskArn=ARN)
        assert hermes(call)["taskArn"] == ARN
    else:
        assert hermes(call) in (False, None)
        assert world.rows.all() == written


def test_other_errors_of_the_sdk_are_passed_on(hermes: Driver):
    hermes.trouble("TransactWriteItems", "TransactionCanceledException", reasons=["ThrottlingError", "None"])
    assert refused(hermes, assign("s1")).name == "TransactionCanceledException"
    hermes.trouble("GetItem", "ResourceNotFoundException")
    assert refused(hermes, touch("s1")).name == "ResourceNotFoundException"


# Beside the original


def test_the_original_works_beside_ours_on_one_container(hermes: Driver, world: World):
    hermes(get(), world.round)
    hermes(original("assignSessionToContainer", "o1", ID))
    hermes(assign("s1"))
    hermes(original("assignSessionToContainer", "o2", ID))
    world.rest()
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (3, ["o1", "o2", "s1"])

    # Either side may close what the other opened.
    hermes(touch("o1"))
    assert hermes(release("o1")) is True
    hermes(original("releaseSession", "s1", ID))
    world.rest()
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (1, ["o2"])

    # A row of the original keeps its container although nothing moves it, and its release lets it go.
    world.clock.step(hours=2)
    world.rest()
    assert world.rows.record(ID)["containerStatus"] == "running"
    hermes(original("releaseSession", "o2", ID))
    world.rest()
    world.clock.step(minutes=25)
    world.rest()
    record = world.rows.record(ID)
    assert (record["sessionCount"], record["containerStatus"]) == (0, "terminated")
    assert len(world.tasks()) == 1


@pytest.mark.parametrize(
    ("half", "counted", "rows"),
    [
        (original("putRow", "o9", ID), 1, ["o1", "o9", "s1"]),
        (original("countUp", ID), 3, ["o1", "s1"]),
        (original("countDown", ID), 1, ["o1", "s1"]),
        (original("deleteRow", "o1"), 2, ["s1"]),
    ],
    ids=["put only", "counted only", "uncounted only", "deleted only"],
)
def test_what_a_crash_of_the_original_leaves_is_repaired(
    hermes: Driver, world: World, half: Call, counted: int, rows: list[str]
):
    hermes(get(), world.round)
    hermes(original("assignSessionToContainer", "o1", ID))
    hermes(assign("s1"))
    hermes(half)
    wrong = world.rows.record(ID)["sessionCount"]
    assert wrong in (counted, counted + 1)
    world.rest()
    assert world.rows.sessions(ID) == rows
    assert world.rows.record(ID)["sessionCount"] == len(rows)
    assert world.rows.record(ID)["containerStatus"] == "running"


def test_the_originals_doubled_calls_leave_no_wrong_count_at_rest(hermes: Driver, world: World):
    hermes(get(), world.round)
    hermes(assign("s1"))
    for _ in range(2):
        hermes(original("assignSessionToContainer", "o1", ID))
    for _ in range(3):
        hermes(original("releaseSession", "o1", ID))
    assert world.rows.record(ID)["sessionCount"] == 0
    assert hermes(release("s1")) is True
    assert world.rows.record(ID)["sessionCount"] == 0
    hermes(original("releaseSession", "s1", ID))
    assert world.rows.record(ID)["sessionCount"] == -1
    world.rest()
    assert (world.rows.record(ID)["sessionCount"], world.rows.sessions(ID)) == (0, [])


def test_ours_and_the_original_at_once_agree_at_rest(hermes: Driver, world: World):
    hermes(get(), world.round)
    calls = [
        *(original("assignSessionToContainer", f"o{n}", ID) for n in range(6)),
        *(assign(f"s{n}") for n in range(6)),
    ]
    hermes.together(*calls)
    closing = [
        *(original("releaseSession", f"o{n}", ID) for n in range(4)),
        *(release(f"s{n}") for n in range(4)),
        *(release(f"o{n}") for n in range(2, 5)),
        *(original("releaseSession", f"s{n}", ID) for n in range(2, 5)),
    ]
    hermes.together(*closing)
    world.rest()
    assert world.rows.sessions(ID) == ["o5", "s5"]
    assert world.rows.record(ID)["sessionCount"] == 2
