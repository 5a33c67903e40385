"""What the channel and the supervisor share: one lock, one state, and the rules of who may change it.

The server's threads put wishes in here and read the status; the supervisor looks, acts, and puts in what became of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from controller import __version__
from controller.agent.activity import Activity
from controller.agent.clock import Clock
from controller.agent.drains import Drains
from controller.agent.protocol import AgentPhase, AgentStatus, Receipt, SessionView
from controller.agent.settings import Settings
from controller.errors import EditctlError


class WrongTask(EditctlError):
    """The message is meant for another task, which had this address before or was launched for the same container."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the supervisor is to bring about, as of one moment."""

    admitted: bool
    drain: int
    save_wanted: bool
    quiet: bool


class Control:
    """The agent's state. Every method may be called from any thread."""

    def __init__(self, settings: Settings, clock: Clock, wake: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._settings = settings
        self._clock = clock
        self._wake = wake
        self._drains = Drains()
        self._activity = Activity(clock, settings.busy_max)
        self._sessions: tuple[SessionView, ...] = ()
        self._task_arn = settings.task_arn
        self._admitted = not settings.has_channel
        self._heard = clock.steady()
        self._phase = AgentPhase.PREPARING
        self._last_save: Receipt | None = None
        self._started_at = clock.epoch()

    def set_wake(self, wake: Callable[[], None]) -> None:
        """Say what is to be called when there is a new wish."""
        self._wake = wake

    # The controller's messages

    def status(self) -> AgentStatus:
        """Return everything there is to say."""
        with self._lock:
            busy = self._activity.busy()
            last = self._activity.last
            drain, asked = self._drains.view(), self._drains.asked_at
            return AgentStatus(
                task_arn=self._task_arn,
                generation=self._settings.generation,
                version=__version__,
                phase=self._phase,
                admitted=self._admitted,
                now=self._clock.epoch(),
                started_at=self._started_at,
                last_activity=None if last is None else self._clock.shown(last),
                busy_since=busy and self._clock.shown(busy[0]),
                busy_until=busy and self._clock.shown(busy[1]),
                drain=drain and replace(drain, asked_at=None if asked is None else self._clock.shown(asked)),
                cancelled_up_to=self._drains.cancelled,
                last_save=self._last_save,
                isolated=self._settings.user is not None,
            )

    def heard(self) -> None:
        """Note that a controller with the right token spoke."""
        with self._lock:
            self._heard = self._clock.steady()

    def check(self, task_arn: str, generation: int | None) -> None:
        """Raise WrongTask unless the message names this task."""
        with self._lock:
            if not self._task_arn or (task_arn, generation) != (self._task_arn, self._settings.generation):
                raise WrongTask(
                    f"this is task {self._task_arn or 'of unknown ARN'}, generation {self._settings.generation}",
                    f"the message is for {task_arn or 'no task'}, generation {generation}",
                )

    def drain(self, drain: int) -> None:
        """Serve this drain, if it is still one to be served."""
        with self._lock:
            self._drains.ask(drain, self._clock.steady())
        self._wake()

    def cancel(self, up_to: int) -> None:
        """Take back all drains up to this one."""
        with self._lock:
            self._drains.cancel(up_to)
        self._wake()

    def keepalive(self, cancelled_up_to: int) -> None:
        """Admit this task: whoever asks has read its ARN and generation in the record."""
        with self._lock:
            self._admitted = True
            self._drains.cancel(cancelled_up_to)
        self._wake()

    def set_sessions(self, sessions: tuple[SessionView, ...]) -> None:
        """Replace the open sessions."""
        with self._lock:
            self._sessions = sessions

    # The workload's messages

    def sessions(self) -> tuple[SessionView, ...]:
        """Return the open sessions."""
        with self._lock:
            return self._sessions

    def take_lease(self, name: str, seconds: float) -> float:
        """Take or renew a busy lease. Raises LeaseRefused."""
        with self._lock:
            return self._activity.take(name, seconds)

    def end_lease(self, name: str) -> None:
        """End a busy lease."""
        with self._lock:
            self._activity.end(name)

    # The supervisor's side

    def wish(self) -> Wish:
        """Return what is to be brought about."""
        with self._lock:
            drains = self._drains
            return Wish(self._admitted, drains.current, drains.wanted, drains.quiet)

    def silent_for(self) -> float:
        """Return the seconds since a controller spoke."""
        with self._lock:
            return self._clock.steady() - self._heard

    def idle_for(self) -> float:
        """Return the seconds since the workload reported activity; 0 while busy."""
        with self._lock:
            return self._activity.idle_for()

    def set_task(self, arn: str) -> None:
        """Say which task this is, once that is known."""
        with self._lock:
            self._task_arn = self._task_arn or arn

    def set_phase(self, phase: AgentPhase) -> None:
        """Say what the agent is doing."""
        with self._lock:
            self._phase = phase

    def saved(self, receipt: Receipt, drain: int = 0) -> None:
        """Note what a save came to, and that it was made under a drain, if it was."""
        with self._lock:
            self._last_save = receipt
            if drain:
                self._drains.done(drain, receipt)
