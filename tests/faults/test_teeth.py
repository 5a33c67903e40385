"""Whether these tests would notice: the controller is spoilt in one place at a time, and each must be caught.

A mutant that survives says that a promise has no test. What a conditional write makes harmless is not here: those are
equivalent, as the models of the protocols show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.core import decide, identity, ledger, stopping, usage
from controller.core.case import Case
from controller.core.ledger import RecordWrite
from controller.core.model import Reason, Step
from controller.errors import SessionNotFound
from controller.reconcile import apply
from tests.fakes.tables import FakeTables
from tests.faults import test_crashes, test_two_controllers, test_writers
from tests.faults.interception import Mode
from tests.faults.interleaving import Side, interleave, orders
from tests.faults.stories import ALL, cold_start, died, idle
from tests.simulation import Simulation

Patch = pytest.MonkeyPatch


def writers(seeds: int = 1500) -> None:
    """Random writers, until something breaks."""
    for seed in range(seeds):
        test_writers.run(seed)


def crashes() -> None:
    """A crash after every write of every story."""
    clean = {}
    for story in ALL:
        sim = Simulation()
        story(sim)
        clean[story] = test_crashes.at_rest(sim)
    for story, expected in clean.items():
        reference = REFERENCE[story.__name__]
        assert expected == reference, f"{story.__name__} ends otherwise"
        calls = test_crashes.calls_of(story)
        for n in [n for n, name in enumerate(calls) if name in ("write", "run_task", "stop_task")]:
            for mode in (Mode.REPLY_LOST, Mode.BEFORE):
                assert test_crashes.crashed(story, [(n, mode)]) == expected, (story.__name__, n, mode)


def controllers() -> None:
    """Every 29th order of two controllers on each story, time passing between the first's reads and its writes."""
    for story, live in test_two_controllers.STORIES.values():
        for order in itertools.islice(orders(), 0, None, 29):
            sim = Simulation()
            story(sim)
            sides = [Side(), Side()]
            passes = [(side, sim.new_controller(side.wrap).round) for side in sides]
            interleave(passes, (turn for turn in order if sim.clock.step(ms=1)))
            sim.check()
            assert len(sim.launched) <= 1
            sim.settle(most=20)
            assert len(sim.live()) == live


def a_user_in_between() -> None:
    """Two controllers at a stop that is under way, and a touch at any moment."""
    for order in test_two_controllers.user_orders():
        test_two_controllers.with_a_user(order)


def a_death_that_two_notice() -> None:
    """Two controllers, several rounds each, at a task that died: what was restarted stays."""
    for seed in range(300):
        test_two_controllers.after_a_death(seed)


def lagging() -> None:
    """Lists and descriptions that are late, while users come and go."""
    for lag in (0, 5_000, 60_000, 290_000):
        for story in (cold_start, idle, died):
            sim = Simulation()
            story(sim)
            sim.ecs.quirks.list_lag_ms, sim.ecs.quirks.describe_lag_ms = lag, min(lag, 5_000)
            for _ in range(30):
                sim.round()
                sim.clock.step(seconds=2)


def _reference() -> dict[str, object]:
    out: dict[str, object] = {}
    for story in ALL:
        sim = Simulation()
        story(sim)
        out[story.__name__] = test_crashes.at_rest(sim)
    return out


REFERENCE = _reference()


def _unconditional(name: str) -> Callable[[Patch], None]:
    def spoil(patch: Patch) -> None:
        whole = getattr(ledger, name)
        patch.setattr(ledger, name, lambda *a, **k: replace(whole(*a, **k), expect=()))

    return spoil


def _without(name: str, *paths: str) -> Callable[[Patch], None]:
    """Take the conditions on these attributes out of one write."""

    def spoil(patch: Patch) -> None:
        whole = getattr(ledger, name)

        def write(*a: Any, **k: Any) -> RecordWrite:
            made: RecordWrite = whole(*a, **k)
            return replace(made, expect=tuple(c for c in made.expect if c.path[0] not in paths))

        patch.setattr(ledger, name, write)

    return spoil


def random_token(patch: Patch) -> None:
    numbers = itertools.count()
    patch.setattr("controller.aws.tasks.client_token", lambda *a: f"token-{next(numbers)}")
    patch.setattr("controller.aws.tasks.Tasks.run", _fresh_token(numbers))


def _fresh_token(numbers: Any) -> Any:
    from controller.aws.tasks import Tasks

    whole = Tasks.run

    def run(self: Any, request: str) -> Any:
        return whole(self, request.replace('"clientToken":"', f'"clientToken":"{next(numbers)}-'))

    return run


def token_of_identity_alone(patch: Patch) -> None:
    patch.setattr("controller.aws.tasks.client_token", lambda c, i, g, r: identity.client_token(c, i, 0, 0))


def generation_reused(patch: Patch) -> None:
    whole = ledger.claim
    patch.setattr(ledger, "claim", lambda r, i, g, launch, c: whole(r, i, max(g - 1, 1), launch, c))
    token_of_identity_alone(patch)


def no_look_before_the_stop(patch: Patch) -> None:
    patch.setattr(apply, "why_not_stop", lambda *a: None)


def a_count_that_differs_does_not_matter(patch: Patch) -> None:
    patch.setattr(Case, "count_drifted", property(lambda self: False))


def stop_goes_on_from_stale_rows(patch: Patch) -> None:
    whole = stopping.why_not_stop
    patch.setattr(apply, "why_not_stop", lambda r, s, ok, *rest: whole(r, (), ok, *rest))


def writers_do_not_move_the_fence(patch: Patch) -> None:
    whole = FakeTables.touch

    def touch(self: FakeTables, session_id: str, container_id: str, now: int) -> None:
        record = dict(self.rows["records"].get(container_id) or {})
        if not record:
            raise SessionNotFound("no record")
        whole(self, session_id, container_id, now)
        self.rows["records"][container_id] = record

    patch.setattr(FakeTables, "touch", touch)


def not_listed_counts_as_gone(patch: Patch) -> None:
    patch.setattr(decide, "_unlisted", lambda case, record: decide._gone(case, record, "not listed", None))


def a_start_waits_for_nothing(patch: Patch) -> None:
    patch.setattr(Case, "unnamed_live", property(lambda self: ()))


def stopping_goes_back_by_itself(patch: Patch) -> None:
    whole = decide._go_on_stopping

    def spoilt(case: Case, record: Any, task: Any) -> Any:
        return decide._correct(case, record, task) if case.usage(task).wanted else whole(case, record, task)

    patch.setattr(decide, "_go_on_stopping", spoilt)
    patch.setattr(ledger, "correct", lambda r, t: replace(_correct_write(r, t), expect=()))


_correct_write = ledger.correct


def nobody_goes_on_with_a_confirmed_stop(patch: Patch) -> None:
    whole = decide._go_on_stopping

    def spoilt(case: Case, record: Any, task: Any) -> Any:
        action = whole(case, record, task)
        return (
            case.keep(Reason.STOP_IN_PROGRESS, "somebody else does", task) if action.step is Step.STOP_TASK else action
        )

    patch.setattr(decide, "_go_on_stopping", spoilt)


def an_unfinished_launch_is_given_up(patch: Patch) -> None:
    patch.setattr(
        decide,
        "_finish_launch",
        lambda case, record: case.act(Step.TERMINATED, Reason.TASK_STOPPED, "nothing is listed"),
    )


def a_stopping_task_is_known_by_its_tags_alone(patch: Patch) -> None:
    patch.setattr("controller.aws.tasks.classify", lambda **k: identity.classify(**{**k, "environment": {}}))


def superseded_is_adopted(patch: Patch) -> None:
    patch.setattr(decide, "_superseded", lambda case: [])


def a_second_task_is_asked_for_nothing(patch: Patch) -> None:
    patch.setattr(Case, "may_hold_work", lambda self, task: False)


def a_second_task_with_work() -> None:
    """A story of its own: somebody's work is in the task that the record has passed by."""
    test_crashes.overwritten_and_crashed(Mode.BEFORE)


def original_rows_are_judged_by_their_activity(patch: Patch) -> None:
    whole = usage.session_use

    def spoilt(session: Any, *rest: Any) -> Any:
        return whole(replace(session, identity=identity.ContainerIdentity("a", "b", "c")), *rest)

    patch.setattr(usage, "session_use", spoilt)


def an_original_user_is_left_alone() -> None:
    """A story of its own: the row of an original writer, 40 minutes old, must keep its container."""
    sim = Simulation()
    sim.tables.put_original_session("o1", "acme-blog-tom", sim.clock())
    sim.tables.add_raw_count("acme-blog-tom", 1)
    for _ in range(5):
        sim.settle()
        sim.clock.step(minutes=10)
    assert len(sim.live()) == 1


def a_failure_is_forgotten(patch: Patch) -> None:
    patch.setattr(apply.Applier, "_failure", lambda self, record, reason: None)


def starts_are_spaced() -> None:
    """A story of its own: refused launches must not be repeated at once."""
    sim = Simulation()
    cold_start(sim)
    sim.ecs.faults.refuse_placement(times=100)
    for _ in range(60):
        sim.round()
        sim.clock.step(seconds=1)
    assert sim.ecs.calls["RunTask"] <= 8


def backoff_is_nothing(patch: Patch) -> None:
    patch.setattr("controller.core.policy.Policy.backoff", lambda self, n: 0)


def at_rest_nothing_is_written() -> None:
    """A story of its own: an idle world costs no writes."""
    sim = Simulation()
    cold_start(sim)
    sim.settle()
    before = sim.writes()
    for _ in range(5):
        sim.round()
        sim.clock.step(seconds=5)
    assert sim.writes() == before


def corrected_every_time(patch: Patch) -> None:
    patch.setattr(
        decide, "_wanted", lambda case, record, task, use: decide._correct(case, record, task) if use.wanted else None
    )


MUTANTS: list[tuple[str, Callable[[Patch], None], Callable[[], None]]] = [
    ("the client token is drawn", random_token, crashes),
    ("the client token knows no generation", token_of_identity_alone, crashes),
    ("a generation is used twice", generation_reused, crashes),
    ("no claim before a launch is condition-free", _unconditional("claim"), controllers),
    ("an unfinished launch is given up", an_unfinished_launch_is_given_up, crashes),
    ("not being listed counts as gone", not_listed_counts_as_gone, lagging),
    ("a failure is counted without condition", _unconditional("failed"), a_death_that_two_notice),
    ("no strong look before the stop", no_look_before_the_stop, controllers),
    ("the strong look sees no rows", stop_goes_on_from_stale_rows, crashes),
    ("a confirmation without the fence", _without("confirm_stop", "lastActivity", "sessionCount"), writers),
    ("a confirmation whatever the status", _unconditional("confirm_stop"), writers),
    ("no condition on holds", _without("confirm_stop", "hold"), writers),
    ("touches do not move the fence", writers_do_not_move_the_fence, writers),
    ("a count is repaired without condition", _unconditional("repair_count"), writers),
    ("a count that differs does not matter", a_count_that_differs_does_not_matter, crashes),
    ("stopping goes back by the table", stopping_goes_back_by_itself, a_user_in_between),
    ("a confirmed stop is nobody's", nobody_goes_on_with_a_confirmed_stop, crashes),
    ("a second task is left alone", superseded_is_adopted, crashes),
    ("a second task is stopped unasked", a_second_task_is_asked_for_nothing, a_second_task_with_work),
    ("a live task that is not named is not seen", a_start_waits_for_nothing, crashes),
    ("tags alone say whose a task is", a_stopping_task_is_known_by_its_tags_alone, crashes),
    ("original rows are as ours", original_rows_are_judged_by_their_activity, an_original_user_is_left_alone),
    ("no pause between launches", backoff_is_nothing, starts_are_spaced),
    ("the record is corrected in every round", corrected_every_time, at_rest_nothing_is_written),
]  # fmt: skip


@pytest.mark.parametrize("check", list(dict.fromkeys(m[2] for m in MUTANTS)), ids=lambda c: getattr(c, "__name__", "?"))
def test_what_is_not_spoilt_passes(check):
    check()


@pytest.mark.parametrize(("spoil", "check"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_every_mutant_is_caught(spoil, check, monkeypatch):
    spoil(monkeypatch)
    with pytest.raises(BaseException) as caught:
        check()
    assert not isinstance(caught.value, (KeyboardInterrupt, SystemExit)), caught.value
