"""The supervisor's decisions, on a clock that only moves when told and processes that only end when told."""

from __future__ import annotations

import random
import signal

import pytest

from controller.agent.clock import Clock
from controller.agent.control import Control
from controller.agent.protocol import AgentPhase, DrainState, Receipt, SaveReason, SaveState
from controller.agent.settings import from_environment
from controller.agent.supervisor import Cause, JobKind, Result, Supervisor
from tests.fakes.clock import FakeClock

SAVED = Result(True, Receipt(SaveState.SAVED, at=0, commit="c" * 40))
FAILED = Result(False, Receipt(SaveState.FAILED, at=0, reason=SaveReason.REMOTE_UNREACHABLE))
ARN = "arn:aws:ecs:eu-west-1:1:task/c/abc"
CHANNEL = {"EDIT_AGENT_PORT": "7000", "EDIT_TOKEN_SHA256": "0" * 64, "EDIT_GENERATION": "3", "EDIT_TASK_ARN": ARN}


class FakeHost:
    """Processes as numbers; what was done to them as a list."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._next = 100
        self.done: list[tuple[object, ...]] = []
        self.frozen = False
        self.missing = False
        self.broken = False

    def start_workload(self) -> int:
        if self.missing:
            raise FileNotFoundError(2, "no such program")
        self.done.append(("workload",))
        return self._new()

    def signal_workload(self, pid: int, number: int) -> None:
        self.done.append(("signal", signal.Signals(number).name))

    def start_job(self, kind: JobKind, seconds: float) -> int:
        if self.broken:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.done.append(("job", str(kind), round(seconds)))
        return self._new()

    def kill_job(self, pid: int) -> None:
        self.done.append(("kill", pid))

    def freeze(self) -> int:
        assert not self.frozen
        self.frozen = True
        self.done.append(("freeze",))
        return 1

    def thaw(self) -> None:
        assert self.frozen
        self.frozen = False
        self.done.append(("thaw",))

    def _new(self) -> int:
        self._next += 1
        return self._next

    @property
    def last(self) -> int:
        """The process that was started last."""
        return self._next

    def jobs(self, kind: str) -> int:
        """Return how many jobs of a kind were started."""
        return sum(1 for each in self.done if each[:2] == ("job", kind))


class Lab:
    """A supervisor with everything around it."""

    def __init__(self, clock: FakeClock, **environment: str) -> None:
        self.clock = clock
        names = {"CLIENT_ID": "a", "PROJECT_ID": "b", "USER_ID": "c"}
        self.settings = from_environment({**names, "EDIT_REMOTE": "/r", **environment})
        time = Clock(clock.now, lambda: clock.now() / 1000)
        self.control = Control(self.settings, time)
        self.host = FakeHost(clock)
        self.supervisor = Supervisor(self.settings, self.control, self.host, time)

    def tick(self, seconds: float = 0.0) -> None:
        self.clock.step(seconds=seconds)
        assert self.supervisor.tick() > 0

    def finish(self, result: Result, seconds: float = 0.0) -> None:
        """Let the job that runs end."""
        self.supervisor.on_job_exit(self.host.last, result)
        self.tick(seconds)

    def running(self) -> Lab:
        """Go on to where the workload runs."""
        self.tick()
        self.finish(Result(True))
        self.tick()
        assert ("workload",) in self.host.done
        return self

    @property
    def code(self) -> int | None:
        return self.supervisor.exit_code

    @property
    def ended(self) -> bool:
        return self.code is not None

    @property
    def phase(self) -> AgentPhase:
        return self.control.status().phase


@pytest.fixture
def lab(clock: FakeClock) -> Lab:
    """Without a channel: the workload starts at once."""
    return Lab(clock)


@pytest.fixture
def admitted(clock: FakeClock) -> Lab:
    """With a channel, admitted."""
    lab = Lab(clock, **CHANNEL)
    lab.tick()
    lab.finish(Result(True))
    lab.control.keepalive(0)
    lab.tick()
    assert lab.phase is AgentPhase.RUNNING
    return lab


def test_restore_then_the_workload(lab):
    lab.running()
    assert lab.host.done == [("job", "restore", 600), ("workload",)]


def test_without_a_channel_nobody_needs_to_admit(lab):
    assert lab.control.status().admitted
    lab.running()


def test_with_a_channel_the_workload_waits_for_admission(clock):
    lab = Lab(clock, **CHANNEL)
    lab.tick()
    lab.finish(Result(True))
    lab.tick(60)
    assert (lab.phase, ("workload",) in lab.host.done) == (AgentPhase.WAITING, False)
    lab.control.keepalive(0)
    lab.tick()
    assert ("workload",) in lab.host.done


def test_a_task_that_is_never_admitted_ends_by_itself(clock):
    lab = Lab(clock, **CHANNEL)
    lab.tick()
    lab.finish(Result(True))
    lab.tick(599)
    assert not lab.ended
    lab.tick(2)
    lab.tick()
    assert lab.code == 69
    assert lab.host.jobs("final") == 0


def test_a_restore_that_fails_is_tried_again_and_then_given_up(lab):
    lab.tick()
    for _ in range(20):
        if lab.code is None and lab.host.done[-1][0] == "job":
            lab.finish(Result(False))
        lab.tick(60)
    assert lab.code == 74
    assert 2 < lab.host.jobs("restore") < 20
    assert ("workload",) not in lab.host.done


def test_a_program_that_is_not_there(lab):
    lab.host.missing = True
    lab.tick()
    lab.finish(Result(True))
    lab.tick()
    assert lab.code == 127


# SIGTERM


def term(lab: Lab) -> None:
    lab.supervisor.on_signal(signal.SIGTERM)
    lab.tick()


def test_sigterm_ends_the_workload_saves_and_exits_0(lab):
    lab.running()
    term(lab)
    assert lab.host.done[-1] == ("signal", "SIGTERM")
    lab.supervisor.on_workload_exit(143)
    lab.tick()
    assert lab.host.done[-2:] == [("freeze",), ("job", "final", 83)]
    lab.finish(SAVED)
    assert lab.code == 0


def test_a_save_that_fails_exits_75(lab):
    lab.running()
    term(lab)
    lab.supervisor.on_workload_exit(0)
    lab.tick(80)
    lab.finish(FAILED)
    assert lab.code == 75


def test_while_there_is_time_a_failed_save_is_tried_again(lab):
    lab.running()
    term(lab)
    lab.supervisor.on_workload_exit(0)
    lab.tick()
    lab.finish(FAILED)
    assert lab.code is None
    lab.tick(11)
    assert lab.host.jobs("final") == 2
    lab.finish(SAVED)
    assert lab.code == 0


@pytest.mark.parametrize("ended", [True, False])
def test_what_cannot_be_read_is_not_tried_again(lab, ended):
    lab.running()
    if not ended:
        term(lab)
    lab.supervisor.on_workload_exit(0)
    lab.tick()
    lab.finish(Result(False, Receipt(SaveState.PARTIAL, at=0, reason=SaveReason.UNREADABLE)))
    assert lab.code == 75
    assert lab.host.jobs("final") == 1


def test_a_save_that_cannot_be_killed_does_not_hold_up_the_end(lab):
    lab.running()
    lab.tick(301)
    term(lab)
    lab.supervisor.on_workload_exit(143)
    lab.tick(83)
    assert not lab.ended
    lab.tick(2)
    assert lab.code == 75


def test_a_helper_that_cannot_be_started_is_tried_again(lab):
    lab.running()
    lab.host.broken = True
    term(lab)
    lab.supervisor.on_workload_exit(143)
    lab.tick()
    assert not lab.ended
    lab.host.broken = False
    lab.tick(11)
    lab.finish(SAVED)
    assert lab.code == 0


def test_a_second_sigterm_begins_no_second_save(lab):
    lab.running()
    term(lab)
    term(lab)
    lab.supervisor.on_workload_exit(143)
    lab.tick()
    term(lab)
    lab.supervisor.on_signal(signal.SIGINT)
    lab.tick()
    assert lab.host.jobs("final") == 1
    lab.finish(SAVED)
    assert lab.code == 0


def test_a_workload_that_ignores_sigterm_is_frozen_and_saved(lab):
    lab.running()
    term(lab)
    lab.tick(9)
    assert lab.host.jobs("final") == 0
    lab.tick(2)
    assert lab.host.done[-2:] == [("freeze",), ("job", "final", 72)]
    lab.finish(SAVED)
    assert lab.code == 0


@pytest.mark.parametrize(("stop", "grace", "all_in"), [("30", 5.25, 21.0), ("120", 10, 84.0)])
def test_the_budget_is_seven_tenths_of_the_stop_timeout(clock, stop, grace, all_in):
    lab = Lab(clock, EDIT_STOP_TIMEOUT=stop).running()
    term(lab)
    lab.tick(grace + 0.1)
    assert lab.host.jobs("final") == 1
    lab.tick(all_in - grace - 0.2)
    assert lab.code is None
    lab.tick(0.2)
    assert lab.code == 75


def test_sigterm_during_the_restore(lab):
    lab.tick()
    term(lab)
    lab.tick()
    assert lab.code == 0
    assert lab.host.done[-1][0] == "kill"
    assert lab.host.jobs("final") == 0


def test_sigterm_before_admission(clock):
    lab = Lab(clock, **CHANNEL)
    lab.tick()
    lab.finish(Result(True))
    term(lab)
    assert lab.code == 0


def test_sigterm_during_a_checkpoint_lets_it_finish(lab):
    lab.running()
    lab.tick(301)
    assert lab.host.jobs("checkpoint") == 1
    term(lab)
    lab.supervisor.on_workload_exit(143)
    lab.tick(5)
    assert lab.host.jobs("final") == 0
    lab.finish(SAVED)
    assert lab.host.jobs("final") == 1


def test_a_checkpoint_that_takes_too_long_is_killed_for_the_last_save(lab):
    lab.running()
    lab.tick(301)
    term(lab)
    lab.supervisor.on_workload_exit(143)
    lab.tick(43)
    assert lab.host.done[-1] == ("kill", lab.host.last)
    lab.finish(Result(False))
    assert lab.host.jobs("final") == 1


def test_other_signals_go_to_the_workload(lab):
    lab.running()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        lab.supervisor.on_signal(number)
    assert [each[1] for each in lab.host.done if each[0] == "signal"] == ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"]


# The workload ends


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (3, 3), (137, 137), (75, 76)])
def test_the_workloads_exit_status_is_the_containers(lab, code, exit_code):
    lab.running()
    lab.supervisor.on_workload_exit(code)
    lab.tick()
    lab.finish(SAVED)
    assert lab.code == exit_code


def test_unsaved_work_keeps_the_container_although_the_workload_is_gone(lab):
    lab.running()
    lab.supervisor.on_workload_exit(1)
    lab.tick()
    for _ in range(10):
        lab.finish(FAILED)
        assert lab.code is None
        lab.tick(301)
    assert lab.host.jobs("final") == 11
    lab.finish(SAVED)
    assert lab.code == 1


def test_that_ends_after_two_hours_or_with_sigterm(lab):
    lab.running()
    lab.supervisor.on_workload_exit(1)
    lab.tick()
    lab.finish(FAILED)
    term(lab)
    lab.tick(1)
    lab.finish(FAILED, 85)
    lab.tick()
    assert lab.code == 75


# Drains


def test_a_drain_freezes_saves_and_stays_frozen(admitted):
    admitted.control.drain(1)
    admitted.tick()
    assert admitted.host.done[-2:] == [("freeze",), ("job", "drain", 240)]
    admitted.finish(SAVED)
    view = admitted.control.status().drain
    assert (view.id, view.state) == (1, DrainState.SAVED)
    admitted.tick(600)
    assert admitted.host.frozen
    assert admitted.phase is AgentPhase.FROZEN


def test_a_cancel_thaws(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.finish(SAVED)
    admitted.control.cancel(1)
    admitted.tick()
    assert not admitted.host.frozen
    assert admitted.control.status().drain is None


def test_a_cancel_in_the_middle_of_the_save_thaws_at_once(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.control.keepalive(1)
    admitted.tick()
    assert not admitted.host.frozen
    admitted.finish(SAVED)
    assert admitted.control.status().drain is None


def test_the_save_of_a_cancelled_drain_is_no_receipt_for_the_next(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.control.cancel(1)
    admitted.control.drain(2)
    admitted.tick()
    admitted.finish(SAVED)
    assert admitted.control.status().drain.state is DrainState.SAVING
    assert admitted.host.jobs("drain") == 2
    admitted.finish(SAVED)
    assert admitted.control.status().drain.state is DrainState.SAVED


def test_a_failed_drain_lets_the_workload_go_on_and_may_be_asked_again(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.finish(FAILED)
    assert admitted.control.status().drain.state is DrainState.FAILED
    assert not admitted.host.frozen
    admitted.control.drain(1)
    admitted.tick()
    assert admitted.host.frozen
    assert admitted.host.jobs("drain") == 2


def test_a_drain_waits_for_a_checkpoint_with_the_workload_frozen(admitted):
    admitted.tick(301)
    admitted.control.drain(1)
    admitted.tick()
    assert admitted.host.frozen
    assert admitted.host.jobs("drain") == 0
    admitted.finish(SAVED)
    assert admitted.control.status().drain.state is DrainState.SAVING
    assert admitted.host.jobs("drain") == 1


def test_sigterm_after_a_receipt_saves_once_more_and_thaws_nothing(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.finish(SAVED)
    term(admitted)
    assert ("thaw",) not in admitted.host.done
    assert ("signal", "SIGTERM") not in admitted.host.done
    admitted.finish(SAVED)
    assert admitted.code == 0


def test_a_drain_before_the_workload_started_has_nothing_to_save(clock):
    lab = Lab(clock, **CHANNEL)
    lab.tick()
    lab.finish(Result(True))
    lab.control.drain(1)
    lab.tick()
    view = lab.control.status().drain
    assert view
    receipt = view.receipt
    assert receipt
    assert receipt.saved
    assert receipt.reason is SaveReason.NOTHING_RAN
    lab.control.keepalive(0)
    lab.tick()
    assert ("workload",) not in lab.host.done
    lab.control.keepalive(1)
    lab.tick()
    assert ("workload",) in lab.host.done


def test_a_save_without_a_receipt_is_a_failure(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.finish(Result(False))
    assert admitted.control.status().drain.receipt.reason is SaveReason.CRASHED


def test_a_save_that_hangs_is_killed(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.tick(243)
    assert admitted.host.done[-1] == ("kill", admitted.host.last)


def test_a_drain_while_the_workload_is_gone_and_unsaved(admitted):
    admitted.supervisor.on_workload_exit(1)
    admitted.tick()
    admitted.finish(FAILED)
    admitted.control.drain(4)
    admitted.tick(20)
    admitted.finish(SAVED)
    assert admitted.control.status().drain.state is DrainState.SAVED


# Checkpoints


def test_checkpoints_every_few_minutes(admitted):
    for _ in range(3):
        admitted.control.heard()
        admitted.tick(301)
        admitted.finish(SAVED)
    assert admitted.host.jobs("checkpoint") == 3
    assert ("freeze",) not in admitted.host.done


# Silence


def test_silence_saves_and_ends(admitted):
    admitted.tick(301)
    admitted.finish(SAVED)
    admitted.tick(7200)
    assert admitted.host.done[-2:] == [("freeze",), ("job", "silence", 240)]
    admitted.finish(SAVED)
    assert admitted.code == 0


def test_without_a_channel_silence_is_normal(lab):
    lab.running()
    lab.tick(100_000)
    assert lab.host.jobs("silence") == 0


def test_local_activity_outweighs_silence(admitted):
    admitted.tick(7000)
    admitted.finish(SAVED)
    admitted.control.take_lease("x", 0)
    admitted.tick(600)
    assert admitted.host.jobs("silence") == 0
    admitted.finish(SAVED)
    admitted.tick(700)
    assert admitted.host.jobs("silence") == 1


def test_a_busy_lease_outweighs_silence(admitted):
    admitted.tick(7000)
    admitted.finish(SAVED)
    admitted.control.take_lease("call", 3000)
    admitted.tick(2400)
    assert admitted.host.jobs("silence") == 0


def test_a_controller_that_speaks_in_the_middle_thaws(admitted):
    admitted.tick(301)
    admitted.finish(SAVED)
    admitted.tick(7200)
    admitted.control.heard()
    admitted.tick()
    assert not admitted.host.frozen
    admitted.finish(SAVED)
    assert admitted.code is None


def test_silence_that_cannot_save_goes_on_trying_for_a_day(admitted):
    hours = 0.0
    while admitted.code is None and hours < 30:
        admitted.tick(120)
        hours += 120 / 3600
        if admitted.host.done[-1][0] == "job":
            admitted.finish(FAILED)
    assert admitted.code == 75
    assert 23.9 < hours < 24.5
    assert admitted.host.jobs("silence") > 50


def test_a_receipt_that_nobody_comes_back_for_ends_in_silence(admitted):
    admitted.control.drain(1)
    admitted.tick()
    admitted.finish(SAVED)
    admitted.tick(7201)
    assert admitted.host.jobs("silence") == 1
    admitted.finish(SAVED)
    assert admitted.code == 0


# Any order of everything


def happens(lab: Lab, generator: random.Random) -> bool:
    """Let something happen, or nothing; tell whether it was a last save that succeeded."""
    what, supervisor = generator.random(), lab.supervisor
    job, control = supervisor._job, lab.control
    if what < 0.15:
        supervisor.on_signal(generator.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1]))
    elif what < 0.2 and ("workload",) in lab.host.done and supervisor._workload_code is None:
        supervisor.on_workload_exit(generator.choice([0, 1, 143]))
    elif what < 0.45 and job:
        result = generator.choice([SAVED, SAVED, FAILED])
        supervisor.on_job_exit(job.pid, result)
        return job.kind is JobKind.FINAL and result is SAVED
    elif what < 0.55 and lab.settings.has_channel:
        control.keepalive(generator.randrange(4))
    elif what < 0.62 and lab.settings.has_channel:
        control.drain(generator.randrange(1, 5))
    return False


@pytest.mark.parametrize("part", range(4))
def test_any_schedule_of_signals_saves_once_and_ends_in_time(part):
    for seed in range(part * 100, part * 100 + 100):
        generator = random.Random(seed)
        stop = generator.choice([30, 120])
        clock = FakeClock()
        lab = Lab(clock, EDIT_STOP_TIMEOUT=str(stop), **(CHANNEL if generator.random() < 0.5 else {}))
        told = None
        saved = False
        for _ in range(400):
            if lab.ended:
                break
            saved |= happens(lab, generator)
            ending = lab.supervisor._ending
            if ending and ending.cause is Cause.TERM and told is None:
                told = clock.now()
            lab.tick(generator.choice([0, 0.1, 1, 5]))
        assert told is not None or not lab.host.done.count(("signal", "SIGTERM")) > 1, seed
        if told is not None:
            assert lab.ended, seed
            assert (clock.now() - told) / 1000 <= 0.7 * stop + 5, seed
            assert lab.code != 0 or saved or ("workload",) not in lab.host.done, seed
            assert lab.host.done.count(("signal", "SIGTERM")) <= 1, seed
