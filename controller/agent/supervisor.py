"""The container's first process: runs the workload, saves its workspace, and decides when the container ends.

Everything happens in `tick`, which looks at what is wanted and at what is, and takes the next step; signals, ended
processes and messages only change what it sees. So no order of them needs code of its own, a second SIGTERM finds the
save begun, and a drain that is cancelled thaws the workload whatever was going on.

The end, in order: SIGTERM to the workload, a grace for it to write, SIGSTOP for what is left, the save, SIGKILL. After
a receipt the workload is frozen already and stays so: what it would still write was not in the receipt.

Exit status: protocol.py, EXIT_*; docs/agent.md has the table.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from controller.agent.clock import Clock
from controller.agent.control import Control
from controller.agent.log import log
from controller.agent.protocol import (
    EXIT_NOT_ADMITTED,
    EXIT_NOT_RESTORED,
    EXIT_NOT_SAVED,
    EXIT_SAVED,
    EXIT_WORKLOAD_75,
    AgentPhase,
    Receipt,
    SaveReason,
    SaveState,
)
from controller.agent.settings import Settings

RETRY_FIRST = 10.0
RETRY_MOST = 300.0
HELD_AFTER_END = 7200.0
"""How long a save is tried again when the workload ended by itself: the container's end would be the work's."""
GRACE_SHARE = 0.25
"""At most this part of the save's budget is spent on waiting for the workload to end."""

NO_PROCESS = -1

ENDS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
FORWARDED = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH})


class JobKind(StrEnum):
    """What a helper process is for."""

    RESTORE = "restore"
    CHECKPOINT = "checkpoint"
    DRAIN = "drain"
    SILENCE = "silence"
    FINAL = "final"


class Cause(StrEnum):
    """Why the container ends."""

    TERM = "SIGTERM"
    WORKLOAD_ENDED = "workloadEnded"
    NOT_ADMITTED = "notAdmitted"
    NOT_RESTORED = "notRestored"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Result:
    """What a helper came to: a save's receipt, or whether a restore worked."""

    ok: bool
    receipt: Receipt | None = None


class Host(Protocol):
    """The operating system, as far as the supervisor needs it."""

    def start_workload(self) -> int:
        """Start the workload in a session of its own and return its pid. Raises OSError."""
        ...

    def signal_workload(self, pid: int, number: int) -> None:
        """Send a signal to the workload's process group."""
        ...

    def start_job(self, kind: JobKind, seconds: float) -> int:
        """Start a restore or save that may take so long, and return its pid."""
        ...

    def kill_job(self, pid: int) -> None:
        """Kill a helper with all that it started."""
        ...

    def freeze(self) -> int:
        """Stop everything that the workload started; return how many processes that are."""
        ...

    def thaw(self) -> None:
        """Continue it."""
        ...


@dataclass(slots=True)
class Job:
    """A helper process that runs."""

    kind: JobKind
    pid: int
    until: float
    drain: int = 0


@dataclass(slots=True)
class Ending:
    """The way out."""

    cause: Cause
    deadline: float
    grace_until: float | None = None
    job_until: float = 0.0
    receipt: Receipt | None = None


class Supervisor:
    """Decides. It never waits: `tick` returns how long nothing will be due."""

    def __init__(self, settings: Settings, control: Control, host: Host, clock: Clock) -> None:
        self._settings = settings
        self._control = control
        self._host = host
        self._clock = clock
        self._began = clock.steady()
        self._prepared = False
        self._workload: int | None = None
        self._workload_code: int | None = None
        self._job: Job | None = None
        self._frozen = False
        self._ending: Ending | None = None
        self._next_try = self._began
        self._failures = 0
        self._checkpoint_at = self._began
        self.exit_code: int | None = None

    # What happened

    def on_signal(self, number: int) -> None:
        """Take a signal: those that end begin the end once, the others go to the workload."""
        if number in ENDS:
            self._end(Cause.TERM, self._settings.save_budget)
        elif number in FORWARDED and self._workload is not None and self._workload_code is None:
            self._host.signal_workload(self._workload, number)

    def on_workload_exit(self, code: int) -> None:
        """Take the workload's exit status (128 + n when a signal n ended it)."""
        self._workload_code = code
        log("workloadEnded", code=code)
        self._end(Cause.WORKLOAD_ENDED, HELD_AFTER_END)

    def on_job_exit(self, pid: int, result: Result) -> None:
        """Take what a helper came to."""
        job = self._job
        if job is None or job.pid != pid:
            return
        self._job = None
        now = self._clock.steady()
        if job.kind is JobKind.RESTORE:
            self._prepared = result.ok
            self._retry(result.ok, now)
            return
        receipt = result.receipt or self._crashed()
        self._control.saved(receipt, job.drain)
        self._checkpoint_at = now + self._settings.checkpoint_interval
        self._retry(receipt.saved, now)
        log("saved", kind=str(job.kind), drain=job.drain or None, **_short(receipt))
        if job.kind is JobKind.FINAL and self._ending:
            self._ending.receipt = receipt
        elif job.kind is JobKind.SILENCE and receipt.saved and self._silent():
            self._finish(Cause.SILENCE, EXIT_SAVED)

    def _crashed(self) -> Receipt:
        return Receipt(
            SaveState.FAILED, self._clock.epoch(), SaveReason.CRASHED, "the save ended without a receipt or was killed"
        )

    def _retry(self, ok: bool, now: float) -> None:
        self._failures = 0 if ok else self._failures + 1
        self._next_try = now if ok else now + min(RETRY_FIRST * 2 ** min(self._failures - 1, 10), RETRY_MOST)

    # What is due

    def tick(self) -> float:
        """Take every step that is due; return the seconds until one may be."""
        if self.exit_code is None:
            if self._ending:
                self._to_the_end(self._ending)
            elif not self._prepared:
                self._prepare()
            elif self._workload is None:
                self._await_admission()
            else:
                self._run()
            self._control.set_phase(self._phase())
        return self._wait()

    def _wait(self) -> float:
        """Return a short while; wishes, signals and ended processes wake the loop before."""
        now = self._clock.steady()
        moments = [now + 1.0]
        if self._ending:
            moments += [self._ending.deadline, self._ending.job_until, self._ending.grace_until or 0.0]
        return min(moment for moment in moments if moment > now) - now

    def _phase(self) -> AgentPhase:
        if self._ending:
            return AgentPhase.STOPPING
        if not self._prepared:
            return AgentPhase.PREPARING
        if self._workload is None:
            return AgentPhase.WAITING
        return AgentPhase.FROZEN if self._frozen else AgentPhase.RUNNING

    def _start(self, kind: JobKind, seconds: float, drain: int = 0) -> None:
        # The helper keeps the time itself; when it cannot (a file system that hangs), it is killed.
        self._job = Job(kind, NO_PROCESS, self._clock.steady() + seconds + 2.0, drain)
        try:
            self._job.pid = self._host.start_job(kind, seconds)
        except OSError as e:
            log("jobNotStarted", kind=str(kind), error=str(e))
            self.on_job_exit(NO_PROCESS, Result(False))

    def _kill_late_job(self) -> None:
        if self._job and self._clock.steady() > self._job.until:
            log("jobKilled", kind=str(self._job.kind))
            self._host.kill_job(self._job.pid)
            self._job.until = float("inf")

    # Before the workload

    def _prepare(self) -> None:
        now = self._clock.steady()
        self._answer_idle_drain()
        self._kill_late_job()
        left = self._began + self._settings.launch_timeout - now
        if self._job is None and left <= 0:
            self._end(Cause.NOT_RESTORED, 0.0)
        elif self._job is None and now >= self._next_try:
            self._start(JobKind.RESTORE, left)

    def _await_admission(self) -> None:
        wish = self._control.wish()
        self._answer_idle_drain()
        if wish.admitted and not wish.quiet:
            self._start_workload()
        elif not wish.admitted and self._clock.steady() > self._began + self._settings.launch_timeout:
            self._end(Cause.NOT_ADMITTED, 0.0)
        elif self._silent():
            self._finish(Cause.SILENCE, EXIT_SAVED)

    def _answer_idle_drain(self) -> None:
        """Give a receipt at once: the workload never ran, so nothing was changed."""
        wish = self._control.wish()
        if wish.save_wanted:
            message = "the workload never started"
            receipt = Receipt(SaveState.SAVED, self._clock.epoch(), SaveReason.NOTHING_RAN, message)
            self._control.saved(receipt, wish.drain)

    def _start_workload(self) -> None:
        try:
            self._workload = self._host.start_workload()
        except OSError as e:
            # Of a directory that does not exist the error names the directory.
            is_missing = isinstance(e, FileNotFoundError) and e.filename != os.fspath(self._settings.workdir)
            code = 127 if is_missing else 126
            log("workloadNotStarted", error=str(e))
            self.exit_code = code
            return
        log("workloadStarted", pid=self._workload)
        self._checkpoint_at = self._clock.steady() + self._settings.checkpoint_interval

    # While it runs

    def _run(self) -> None:
        wish = self._control.wish()
        self._kill_late_job()
        silent = self._silent()
        self._set_frozen(wish.quiet or (self._job is not None and self._job.kind is JobKind.SILENCE and silent))
        if self._job is not None:
            return
        now = self._clock.steady()
        if wish.save_wanted:
            self._start(JobKind.DRAIN, self._settings.save_timeout, wish.drain)
        elif silent and now >= self._next_try:
            # Also under a receipt that nobody came back for: the work is saved, and a stopped task is found.
            self._save_in_silence()
        elif now >= self._checkpoint_at and not wish.quiet:
            self._start(JobKind.CHECKPOINT, self._settings.save_timeout)

    def _save_in_silence(self) -> None:
        if self._control.silent_for() > self._settings.silence_limit:
            self._end(Cause.SILENCE, self._settings.save_timeout)
            return
        self._set_frozen(True)
        self._start(JobKind.SILENCE, self._settings.save_timeout)

    def _silent(self) -> bool:
        """Whether nobody wants this container any more, as far as can be seen from here."""
        settings = self._settings
        return (
            settings.has_channel
            and self._control.silent_for() > settings.allowed_outage
            and self._control.idle_for() > settings.idle_time
        )

    def _set_frozen(self, wanted: bool) -> None:
        if wanted == self._frozen:
            return
        self._frozen = wanted
        if wanted:
            log("frozen", processes=self._host.freeze())
        else:
            self._host.thaw()
            log("thawed")

    # The end

    def _end(self, cause: Cause, budget: float) -> None:
        now = self._clock.steady()
        if self._ending is None:
            self._ending = Ending(cause, now + budget, job_until=now + budget / 2)
            log("ending", cause=str(cause), seconds=round(budget, 1))
        elif cause is Cause.TERM and self._ending.cause is not Cause.TERM:
            # From now on there is less time than there seemed to be.
            self._ending.cause = cause
            self._ending.deadline = min(self._ending.deadline, now + budget)
            self._ending.job_until = min(self._ending.job_until, now + budget / 2)
            self._next_try = now

    def _to_the_end(self, ending: Ending) -> None:
        if self._workload is None:
            self._end_without_workload(ending)
            return
        now = self._clock.steady()
        if ending.receipt and ending.receipt.saved:
            self._finish(ending.cause, self._code())
        elif now >= ending.deadline:
            if self._job:
                self._host.kill_job(self._job.pid)
            self._finish(ending.cause, EXIT_NOT_SAVED)
        elif self._workload_is_quiet(ending) and not self._another_job_runs(ending):
            self._save_at_last(ending, now)

    def _save_at_last(self, ending: Ending, now: float) -> None:
        self._kill_late_job()
        if self._job is None and self._may_try_again(ending, now):
            # A second less, so that it can say itself what it did not manage.
            left = max(1.0, ending.deadline - now - 1.0)
            self._start(JobKind.FINAL, min(left, self._settings.save_timeout), self._asked())

    def _asked(self) -> int:
        """Return the drain that the last save answers as well, if one was asked for."""
        wish = self._control.wish()
        return wish.drain if wish.save_wanted else 0

    def _may_try_again(self, ending: Ending, now: float) -> bool:
        """Whether to begin a save now: the first at once; after a failure later, if there is time for it."""
        if ending.receipt is None:
            return True
        if ending.receipt.state is SaveState.PARTIAL or self._next_try >= ending.deadline:
            # What could be read is safe, and trying again would not read more.
            self._finish(ending.cause, EXIT_NOT_SAVED)
            return False
        return now >= self._next_try

    def _end_without_workload(self, ending: Ending) -> None:
        if self._job:
            self._host.kill_job(self._job.pid)
        codes = {Cause.NOT_ADMITTED: EXIT_NOT_ADMITTED, Cause.NOT_RESTORED: EXIT_NOT_RESTORED}
        self._finish(ending.cause, codes.get(ending.cause, EXIT_SAVED))

    def _workload_is_quiet(self, ending: Ending) -> bool:
        """Bring the workload to rest: SIGTERM, a grace, then SIGSTOP for it and all it left behind."""
        now = self._clock.steady()
        if self._frozen:
            return True
        if self._workload_code is None and ending.grace_until is None:
            assert self._workload is not None
            self._host.signal_workload(self._workload, signal.SIGTERM)
            left = ending.deadline - now
            ending.grace_until = now + min(self._settings.workload_grace, left * GRACE_SHARE)
        if self._workload_code is None and ending.grace_until is not None and now < ending.grace_until:
            return False
        self._set_frozen(True)
        return True

    def _another_job_runs(self, ending: Ending) -> bool:
        """Let a save that was under way finish what it pushes, but not at the price of the last one."""
        if self._job is None or self._job.kind is JobKind.FINAL:
            return False
        if self._clock.steady() >= ending.job_until:
            self._host.kill_job(self._job.pid)
        return True

    def _code(self) -> int:
        """Return the exit status when everything is saved."""
        if self._ending is None or self._ending.cause is not Cause.WORKLOAD_ENDED or self._workload_code is None:
            return EXIT_SAVED
        return EXIT_WORKLOAD_75 if self._workload_code == EXIT_NOT_SAVED else self._workload_code

    def _finish(self, cause: Cause, code: int) -> None:
        log("exit", cause=str(cause), code=code)
        self.exit_code = code


def _short(receipt: Receipt) -> dict[str, object]:
    return {
        "state": str(receipt.state),
        "reason": str(receipt.reason),
        "message": receipt.message,
        "branch": receipt.branch,
        "commit": receipt.commit,
        "rescueRef": receipt.rescue_ref,
        "files": receipt.files,
        "milliseconds": receipt.milliseconds,
    }


def exit_status(status: int) -> int:
    """Return a wait status as a shell does: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
