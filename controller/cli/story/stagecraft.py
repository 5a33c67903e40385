"""What every scene does: chats are opened, the controller is listened to, and what is said is checked."""

from __future__ import annotations

from collections.abc import Callable

from controller.cli.story.figures import STOPPED_BY_US
from controller.cli.story.stage import NotAsTold, SeenTask, Stage
from controller.cli.story.teller import Teller
from controller.core.identity import ContainerIdentity
from controller.core.model import SECOND, ContainerStatus, DrainReason, Millis, Reason, Step

__all__ = ["PATIENCE", "Stagecraft"]

PATIENCE: Millis = 30 * SECOND
"""What a slow machine may take for a scene."""


class Stagecraft:
    """The means of the scenes. Whatever is expected and is not so raises NotAsTold."""

    def __init__(self, stage: Stage, teller: Teller) -> None:
        self.stage = stage
        self.teller = teller
        self.began = stage.clock()
        self.open: dict[str, ContainerIdentity] = {}
        self.opened_at: dict[ContainerIdentity, Millis] = {}
        self._cast: frozenset[str] = frozenset()
        self._heard = 0
        self._since = 0

    def keep_typing(self) -> None:
        """Let everybody write something in each open chat."""
        for session_id in self.open:
            self.stage.registry.touch(session_id)

    def opens(self, session_id: str, identity: ContainerIdentity) -> None:
        """Let somebody open a chat."""
        self.opened_at.setdefault(identity, self.stage.clock())
        self.stage.registry.open(session_id, identity)
        self.open[session_id] = identity

    def listen(self, *cast: ContainerIdentity, widest_reason: Reason = Reason.LAUNCH_UNFINISHED) -> None:
        """From here on show what the controller does with these containers."""
        self._cast = frozenset(identity.container_id for identity in cast)
        self._since = self._heard = len(self.stage.events)
        self.teller.cast(self._cast, widest_reason)

    def until(
        self, what: str, check: Callable[[], bool], within: Millis = PATIENCE, *, needs_controller: bool = True
    ) -> None:
        """Wait until the check holds, and show what the controller does meanwhile."""
        began = self.stage.clock()

        def meanwhile() -> None:
            self._show_events()
            self.teller.progress(f"{what}, {(self.stage.clock() - began) // SECOND} s")

        try:
            self.stage.until(what, check, within, meanwhile, needs_controller=needs_controller)
        finally:
            self.teller.clear()
            self.teller.waited((self.stage.clock() - began) / SECOND)

    def _show_events(self) -> None:
        heard = self.stage.events[self._heard :]
        self._heard += len(heard)
        for event in heard:
            if event.container_id in self._cast:
                self.teller.event(event)

    def does(self, step: Step, *whose: ContainerIdentity) -> Callable[[], bool]:
        """Return a check that holds when the controller says that it did this step for all of them in this scene."""
        return lambda: all(self.stage.done(step, identity, self._since) for identity in whose)

    def starts(self, *whose: ContainerIdentity) -> Callable[[], bool]:
        """Return a check that holds when the controller says that all of them run, told in this scene."""
        return lambda: all(self.stage.is_up(identity, self._since) for identity in whose)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Check one fact."""
        if found != expected:
            raise NotAsTold(f"{what}: {expected} was expected, {found} is so")

    def expect_one_task(self, identity: ContainerIdentity, generation: int) -> SeenTask:
        """Check that ECS runs one task for the container, and that the record names it."""
        live, record, name = self.stage.live(identity), self.stage.record(identity), identity.container_id
        self.expect(f"live tasks of {name}", len(live), 1)
        task = live[0]
        self.expect(f"status of the task of {name}", task.status, "RUNNING")
        self.expect(f"task in the record of {name}", record.task_arn, task.arn)
        self.expect(f"status in the record of {name}", record.status, ContainerStatus.RUNNING)
        self.expect(f"generation of {name}", (task.generation, record.generation), (generation, generation))
        rows = self.stage.rows(identity)
        self.expect(f"sessionCount of {name}", record.session_count, rows)
        return task

    def expect_stopped_by_us(self, task: SeenTask, why: DrainReason) -> None:
        """Check that editctl has stopped the task, for this reason."""
        now = self.stage.task(task.arn)
        self.expect(f"status of task {task.short}", now.status, "STOPPED")
        self.expect(f"why task {task.short} stopped", now.stopped_reason.partition(",")[0], f"{STOPPED_BY_US}{why}")
