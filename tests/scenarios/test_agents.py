"""The life of a container with its agent inside: admission, drain, receipt, cancel, and a save that fails."""

from functools import partial

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, Reason
from controller.errors import SessionNotFound
from tests.faults.interception import Crash, CrashAt, Intercepted, Mode
from tests.simulation import Simulation

TOM = ContainerIdentity("acme", "blog", "tom")
ID = TOM.container_id


@pytest.fixture
def sim():
    return Simulation(agents=True)


def record_of(sim):
    record = sim.tables.get_record(ID)
    assert record is not None
    return record


def running(sim) -> str:
    """Open a session, let its container start, and return the task's ARN."""
    sim.registry.open("s1", TOM)
    sim.settle()
    (task,) = sim.live(ID)
    return str(task["taskArn"])


def reasons(sim):
    return {a.reason for a in sim.controller.planner.view().plan.actions}


def test_the_workload_begins_only_after_its_arn_is_in_the_record(sim):
    sim.registry.open("s1", TOM)
    sim.round()
    arn = sim.live(ID)[0]["taskArn"]
    assert not sim.agents.works(arn)
    sim.settle()
    assert record_of(sim).status == "running"
    assert sim.agents.of(arn).admitted
    assert sim.agents.of(arn).sessions == ("s1",)
    assert sim.agents.works(arn)


def test_a_new_session_is_handed_over_within_a_round(sim):
    arn = running(sim)
    sim.registry.open("s2", TOM)
    sim.round()
    assert sim.agents.of(arn).sessions == ("s1", "s2")


def test_an_idle_container_is_saved_then_stopped(sim):
    arn = running(sim)
    for _ in range(7):
        assert sim.agents.works(arn)
    sim.clock.step(minutes=22)
    sim.settle()
    assert sim.stopped == [arn]
    agent, record = sim.agents.of(arn), record_of(sim)
    assert agent.pushed == agent.work == 7
    assert record.status == "terminated"
    assert record.save is not None
    assert (record.save.state, record.save.commit) == ("saved", f"{7:040x}")


def test_activity_inside_and_a_busy_lease_keep_it(sim):
    arn = running(sim)
    for _ in range(4):
        sim.clock.step(minutes=15)
        sim.agents.works(arn)
        sim.settle()
    assert len(sim.live(ID)) == 1
    sim.agents.of(arn).busy_until = sim.clock() + 40 * MINUTE
    sim.clock.step(minutes=39)
    sim.settle()
    assert reasons(sim) == {Reason.BUSY}
    sim.clock.step(minutes=2)
    sim.settle()
    assert sim.stopped == [arn], "a stuck lease ends at its maximum"


def test_a_user_who_comes_back_while_it_saves_finds_it_at_work(sim):
    arn = running(sim)
    sim.clock.step(minutes=22)
    sim.round()
    assert record_of(sim).status == "draining"
    assert sim.agents.of(arn).frozen
    sim.registry.touch("s1")
    sim.round()
    assert record_of(sim).status == "running"
    assert sim.agents.works(arn)
    assert not sim.stopped


def test_a_cancel_that_did_not_arrive_is_made_good_by_the_next_keepalive(sim):
    arn = running(sim)
    sim.clock.step(minutes=22)
    sim.round()
    sim.registry.touch("s1")
    dies = CrashAt(None)
    sim.controller = sim.new_controller(lambda port: Intercepted(port, _dies_before("cancel", dies)))
    with pytest.raises(Crash):
        sim.round()
    assert record_of(sim).status == "running"
    assert sim.agents.of(arn).frozen, "the record is back, the agent has not heard"
    sim.controller = sim.new_controller()
    sim.round()
    assert sim.agents.works(arn)


def _dies_before(name, _):
    def around(called, call):
        if called == name:
            raise Crash
        return call()

    return around


def test_a_receipt_of_an_earlier_drain_is_no_ground_to_stop(sim):
    arn = running(sim)
    sim.agents.works(arn)
    sim.clock.step(minutes=22)
    sim.round()
    sim.registry.touch("s1")
    sim.settle()
    sim.agents.works(arn)
    sim.agents.remote_down = True
    sim.clock.step(minutes=22)
    for _ in range(5):
        sim.round()
        sim.clock.step(seconds=2)
    assert record_of(sim).status == "draining"
    assert not sim.stopped


def test_a_save_that_fails_is_tried_again_for_two_hours_and_then_the_stop_says_so(sim):
    arn = running(sim)
    sim.agents.works(arn)
    sim.agents.remote_down = True
    sim.clock.step(minutes=22)
    began = sim.clock()
    asked = 0
    while not sim.stopped:
        before = sim.agents.of(arn).drains.wanted
        sim.round()
        asked += sim.agents.of(arn).drains.wanted and not before
        sim.clock.step(minutes=1)
        assert sim.clock() - began <= 125 * MINUTE
    assert sim.clock() - began >= 120 * MINUTE
    assert 20 <= asked <= 26, "every five minutes"
    sim.settle()
    record = record_of(sim)
    assert record.status == "terminated"
    assert record.save is not None
    assert record.save.state == "failed"


def test_the_remote_comes_back_and_the_stop_goes_on(sim):
    arn = running(sim)
    sim.agents.works(arn)
    sim.agents.remote_down = True
    sim.clock.step(minutes=22)
    for _ in range(20):
        sim.round()
        sim.clock.step(minutes=1)
    assert Reason.SAVE_FAILED in reasons(sim)
    sim.agents.remote_down = False
    for _ in range(10):
        sim.round()
        sim.clock.step(minutes=1)
    assert sim.stopped == [arn]
    record = record_of(sim)
    assert record.save is not None
    assert record.save.state == "saved"


def test_an_agent_that_does_not_answer_lengthens_its_drain_by_the_save_hold_and_no_more(sim):
    arn = running(sim)
    sim.agents.works(arn)
    sim.agents.unreachable.add(arn)
    sim.clock.step(minutes=22)
    began = sim.clock()
    seen = set()
    while not sim.stopped:
        sim.round()
        seen |= reasons(sim)
        sim.clock.step(minutes=2)
        assert sim.clock() - began <= 130 * MINUTE
    assert sim.clock() - began >= 120 * MINUTE
    assert {Reason.SAVING, Reason.AGENT_UNREACHABLE} <= seen
    agent = sim.agents.of(arn)
    assert agent.pushed == agent.work, "SIGTERM still saves"


def test_a_task_whose_agent_never_comes_up_is_given_up(sim):
    sim.registry.open("s1", TOM)
    sim.round()
    first = sim.live(ID)[0]["taskArn"]
    sim.agents.unreachable.add(first)
    for _ in range(200):
        sim.registry.touch("s1")
        sim.round()
        sim.clock.step(seconds=10)
        if len(sim.launched) > 1:
            break
    assert first in sim.stopped
    sim.settle(most=60)
    assert record_of(sim).status == "running"


def test_a_hold_thaws(sim):
    arn = running(sim)
    sim.clock.step(minutes=22)
    sim.round()
    assert sim.agents.of(arn).frozen
    sim.tables.set_pause("ops", "migration", sim.clock() + 60 * MINUTE)
    sim.round()
    assert record_of(sim).status == "running"
    assert sim.agents.works(arn)


@pytest.mark.parametrize("who", ["ours", "original"])
def test_activity_at_every_gap_of_a_stop_is_kept_or_its_work_is_saved(who):
    """A writer between any two calls of a stop: the drain is cancelled, or all is saved and a new container starts."""
    kept = stopped = 0
    for gap in range(60):
        sim = Simulation(agents=True)
        arn = running(sim)
        assert sim.agents.works(arn)
        sim.clock.step(minutes=22)
        calls = 0

        def around(_, call, sim=sim, gap=gap):
            nonlocal calls
            if calls == gap:
                _write(sim, who)
            calls += 1
            return call()

        sim.controller = sim.new_controller(partial(Intercepted, around=around))
        for _ in range(5):
            sim.round()
            sim.clock.step(seconds=2)
        if calls <= gap:
            break
        sim.controller = sim.new_controller()
        sim.settle(most=40)
        agent = sim.agents.of(arn)
        if sim.stopped:
            stopped += 1
            assert agent.pushed == agent.work, f"gap {gap}: work was lost"
            assert len(sim.live(ID)) == 1, f"gap {gap}: the user waits for ever"
        else:
            kept += 1
            assert sim.agents.works(arn), f"gap {gap}: it was left frozen"
    assert kept >= 10
    assert stopped >= 1


def _write(sim, who):
    if who == "ours":
        try:
            sim.registry.touch("s1")
        except SessionNotFound:
            return
    else:
        sim.tables.put_original_session("o1", ID, sim.clock())
        sim.tables.add_raw_count(ID, 1)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_crash_at_every_call_of_a_stop_loses_no_work(mode):
    for n in range(60):
        sim = Simulation(agents=True)
        arn = running(sim)
        sim.agents.works(arn)
        sim.clock.step(minutes=22)
        around = CrashAt(n, mode)
        sim.controller = sim.new_controller(around.wrap)
        try:
            sim.settle(most=30)
        except Crash:
            sim.clock.step(seconds=1)
        sim.controller = sim.new_controller()
        sim.settle(most=40)
        agent = sim.agents.of(arn)
        assert sim.stopped, n
        assert agent.pushed == agent.work == 1, n
        record = record_of(sim)
        assert record.save is not None, n
        assert record.save.state == "saved", n
        if len(around.calls) <= n:
            return
