"""The story of the demo: each scene says what happens, lets it happen, and holds the outcome against the truth."""

from __future__ import annotations

import signal
from collections.abc import Callable

from controller.cli.figures import STOPPED_BY_US, Rest, measure
from controller.cli.stage import NotAsTold, Planted, SeenTask, Stage
from controller.cli.teller import Teller
from controller.core.identity import ContainerIdentity
from controller.core.model import HOUR, MINUTE, SECOND, ActionKind, ContainerStatus, DrainReason, Millis, Reason, Step
from controller.core.words import duration
from controller.reconcile.leadership import LEASE

__all__ = ["Story"]

JOHN = "john@email.com"
LOU = "lou@zeta.io"
JOHN_WEBSITE = ContainerIdentity("ameliastamps", "website", JOHN)
JOHN_SITE = ContainerIdentity("zeta", "site", JOHN)
LOU_SITE = ContainerIdentity("zeta", "site", LOU)
LOU_SHOP = ContainerIdentity("zeta", "shop", LOU)
EVA_BLOG = ContainerIdentity("acme", "blog", "eva@acme.com")
"""Whom nobody knows any more."""

PATIENCE: Millis = 30 * SECOND
"""What a slow machine may take for a scene."""
ROUNDS_AT_REST = 3


class Story:
    """Eight scenes and the figures. Every claim is checked; one that does not hold ends the story with NotAsTold."""

    def __init__(self, stage: Stage, teller: Teller) -> None:
        self._stage = stage
        self._teller = teller
        self._began = stage.clock()
        self._open: dict[str, ContainerIdentity] = {}
        self._opened_at: dict[ContainerIdentity, Millis] = {}
        self._cast: frozenset[str] = frozenset()
        self._heard = 0
        self._since = 0

    def play(self) -> None:
        """Play all of it."""
        scenes: tuple[tuple[str, Callable[[], None]], ...] = (
            ("Two people open three projects", self._two_people),
            ("A second chat shares the container", self._second_chat),
            ("A count that drifted", self._drifted_count),
            ("A second task for the same container", self._duplicate),
            ("A task that belongs to nobody", self._orphan),
            ("Somebody stops a task by hand", self._stopped_by_hand),
            ("The controller is killed between RunTask and its record", self._killed),
            ("Nobody writes any more", self._idle),
        )
        for number, (title, scene) in enumerate(scenes, 1):
            self._teller.scene(number, len(scenes), title)
            self._as_told(f"scene {number}/{len(scenes)}", scene)
        self._as_told("the end", self._figures)

    def _as_told(self, where: str, scene: Callable[[], None]) -> None:
        try:
            self._keep_typing()
            scene()
            self._teller.breathe()
        except NotAsTold as failed:
            raise NotAsTold(
                f"{where} did not come out as told: {failed.what}",
                failed.why,
                "run it again; if it stays so, one of editctl's promises is broken: please report it",
            ) from failed

    # What every scene does

    def _keep_typing(self) -> None:
        for session_id in self._open:
            self._stage.registry.touch(session_id)

    def _opens(self, session_id: str, identity: ContainerIdentity) -> None:
        self._opened_at.setdefault(identity, self._stage.clock())
        self._stage.registry.open(session_id, identity)
        self._open[session_id] = identity

    def _listen(self, *cast: ContainerIdentity, widest_reason: Reason = Reason.LAUNCH_UNFINISHED) -> None:
        """From here on show what the controller does with these containers."""
        self._cast = frozenset(identity.container_id for identity in cast)
        self._since = self._heard = len(self._stage.events)
        self._teller.cast(self._cast, widest_reason)

    def _until(self, what: str, check: Callable[[], bool], within: Millis = PATIENCE) -> None:
        began = self._stage.clock()

        def meanwhile() -> None:
            self._show_events()
            self._teller.progress(f"{what}, {(self._stage.clock() - began) // SECOND} s")

        try:
            self._stage.until(what, check, within, meanwhile)
        finally:
            self._teller.clear()

    def _show_events(self) -> None:
        heard = self._stage.events[self._heard :]
        self._heard += len(heard)
        for event in heard:
            if event.container_id in self._cast:
                self._teller.event(event)

    def _does(self, step: Step, *whose: ContainerIdentity) -> Callable[[], bool]:
        """Return a check that holds when the controller says that it did this step for all of them in this scene."""
        return lambda: all(self._stage.done(step, identity, self._since) for identity in whose)

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise NotAsTold(f"{what}: {expected} was expected, {found} is so")

    def _expect_one_task(self, identity: ContainerIdentity, generation: int) -> SeenTask:
        """Check that ECS runs one task for the container, and that the record names it."""
        live, record, name = self._stage.live(identity), self._stage.record(identity), identity.container_id
        self._expect(f"live tasks of {name}", len(live), 1)
        task = live[0]
        self._expect(f"status of the task of {name}", task.status, "RUNNING")
        self._expect(f"task in the record of {name}", record.task_arn, task.arn)
        self._expect(f"status in the record of {name}", record.status, ContainerStatus.RUNNING)
        self._expect(f"generation of {name}", (task.generation, record.generation), (generation, generation))
        rows = self._stage.rows(identity)
        self._expect(f"sessionCount of {name}", record.session_count, rows)
        return task

    # The scenes

    def _two_people(self) -> None:
        self._teller.say(
            "Each client, project and user gets one container, for as long as somebody chats with it.",
            f"{JOHN} opens a chat on ameliastamps/website, {LOU} one on zeta/site and one on zeta/shop.",
        )
        self._teller.breathe()
        self._listen()
        self._until("the controller starts", self._stage.leads)
        cast = (JOHN_WEBSITE, LOU_SITE, LOU_SHOP)
        self._listen(*cast)
        for number, identity in enumerate(cast, 1):
            self._opens(f"chat-{number}", identity)
        self._until("three containers start", self._does(Step.CORRECT, *cast))
        for identity in cast:
            self._expect_one_task(identity, generation=1)
        self._expect("tasks in ECS", len(self._stage.tasks()), len(cast))
        self._teller.checked(f"ECS runs {len(cast)} tasks, one for each, and each record names its own.")

    def _second_chat(self) -> None:
        self._teller.say(
            f"{JOHN} opens a second chat on the website. Same client, project and user, so same container:",
            "a second one would cost twice and work on a copy.",
        )
        self._teller.breathe()
        before, calls = self._stage.live(JOHN_WEBSITE), self._stage.traffic.count("RunTask")
        self._listen(JOHN_WEBSITE)
        self._opens("chat-4", JOHN_WEBSITE)
        self._until("the controller looks", self._stage.rounds(1))
        self._show_plan_of(JOHN_WEBSITE)
        task = self._expect_one_task(JOHN_WEBSITE, generation=1)
        self._expect("the task", [task], before)
        self._expect("sessions of the container", self._stage.rows(JOHN_WEBSITE), 2)
        self._expect("calls to RunTask", self._stage.traffic.count("RunTask"), calls)
        self._teller.checked(f"still task {task.short}, with sessionCount 2; RunTask was not called.")

    def _show_plan_of(self, identity: ContainerIdentity) -> None:
        actions = [a for a in self._stage.planner().view().plan.actions if a.container_id == identity.container_id]
        for action in actions:
            self._teller.line(action.kind, action.container_id, action.reason, action.message)
        self._expect("the plan", [a.kind for a in actions], [ActionKind.KEEP])

    def _drifted_count(self) -> None:
        self._teller.say(
            "John's second chat is closed by a writer that dies half-way: its row is gone, sessionCount still says 2.",
            "While the two disagree, nobody can say that the container is not wanted: it would run for ever.",
        )
        self._teller.breathe()
        self._listen(JOHN_WEBSITE)
        self._stage.lose_a_release("chat-4")
        del self._open["chat-4"]
        self._until("the count is repaired", self._does(Step.REPAIR_COUNT, JOHN_WEBSITE))
        self._expect_one_task(JOHN_WEBSITE, generation=1)
        self._expect("sessionCount", self._stage.record(JOHN_WEBSITE).session_count, 1)
        self._teller.checked("sessionCount 1, and 1 row.")

    def _duplicate(self) -> None:
        self._teller.say(
            "Somebody runs a second task for Lou's zeta/site, past the controller.",
            "Two agents on one workspace overwrite each other's work.",
        )
        self._teller.breathe()
        (first,) = self._stage.live(LOU_SITE)
        self._listen(LOU_SITE)
        second = self._stage.plant(Planted.DUPLICATE, LOU_SITE)
        self._until("the second task is stopped", self._is_stopped(second))
        self._expect_stopped_by_us(second, DrainReason.SUPERSEDED)
        self._expect("the first task", self._expect_one_task(LOU_SITE, generation=1), first)
        self._teller.checked(f"task {second.short} is STOPPED; task {first.short}, which the record names, runs on.")

    def _orphan(self) -> None:
        age = 2 * HOUR
        self._teller.say(
            "A task with editctl's tags runs that no session and no record knows;",
            f"it is dated {duration(age)} back, since a young one is left alone.",
            "It would be billed for ever. The one beside it has no such tags: it is somebody else's and stays.",
        )
        self._teller.breathe()
        self._listen(EVA_BLOG)
        stranger = self._stage.plant(Planted.SOMEBODY_ELSES, None, age)
        orphan = self._stage.plant(Planted.ORPHAN, EVA_BLOG, age)
        self._until("the orphan is stopped", self._does(Step.TERMINATED, EVA_BLOG))
        self._expect_stopped_by_us(orphan, DrainReason.ORPHANED)
        self._expect("the other task", self._stage.task(stranger.arn).status, "RUNNING")
        self._teller.checked(
            f"two looks agreed and task {orphan.short} is STOPPED; task {stranger.short} was not touched."
        )

    def _stopped_by_hand(self) -> None:
        self._teller.say(
            "Somebody stops the task of Lou's zeta/site in the console. Her chat is still active.",
            "The next one may only start when this one is gone: its last push could race with it.",
        )
        self._teller.breathe()
        (lost,) = self._stage.live(LOU_SITE)
        self._listen(LOU_SITE)
        self._stage.ecs.stop_by_hand(lost.arn, "Stopped by hand")
        self._until("the container is back", self._does(Step.CORRECT, LOU_SITE))
        new = self._expect_one_task(LOU_SITE, generation=2)
        self._teller.checked(f"task {new.short} runs in place of task {lost.short}; the chat is the same.")

    def _killed(self) -> None:
        calls, tasks = self._stage.traffic.count("RunTask"), len(self._stage.tasks())
        self._teller.say(
            f"{JOHN} opens a chat on zeta/site: another user, so another container.",
            "The controller dies at the worst moment: ECS has started the task, and the answer is still on its way.",
        )
        self._teller.breathe()
        self._listen(JOHN_SITE)
        task = self._kill_in_run_task("chat-5", JOHN_SITE)
        self._restart_blind(task)
        self._until("the new controller takes over", self._does(Step.CORRECT, JOHN_SITE), within=2 * PATIENCE)
        self._stage.ecs.quirks.list_lag_ms = 0
        self._expect("the task", self._expect_one_task(JOHN_SITE, generation=1).arn, task.arn)
        self._expect("more calls to RunTask", self._stage.traffic.count("RunTask") - calls, 2)
        self._expect("more tasks in ECS", len(self._stage.tasks()) - tasks, 1)
        self._teller.checked(
            f"RunTask was called twice, with the client token of the record: ECS gave task {task.short} both times. "
            "No second task."
        )

    def _kill_in_run_task(self, session_id: str, identity: ContainerIdentity) -> SeenTask:
        """Let the controller launch the container and kill it before it gets RunTask's answer; return the task."""
        traffic = self._stage.traffic
        traffic.hold("RunTask")
        self._opens(session_id, identity)
        self._until("the controller calls RunTask", lambda: traffic.holds_a_reply)
        self._stage.controller.kill()
        traffic.let_go()
        self._expect("how the controller ended", self._stage.controller.exit_code, -signal.SIGKILL)
        self._expect("a launch without an answer in the record", self._stage.record(identity).awaits_arn, True)
        live = self._stage.live(identity)
        self._expect("live tasks", len(live), 1)
        return live[0]

    def _restart_blind(self, task: SeenTask) -> None:
        """Start a controller that cannot see the task in ECS's lists."""
        killed = self._stage.controller.pid
        self._stage.ecs.quirks.list_lag_ms = MINUTE
        self._stage.start_controller()
        self._teller.say(
            f"SIGKILL for process {killed}. Task {task.short} runs, and the record says starting and names no task:",
            "a restart that takes this for a failed start pays for two.",
        )
        self._teller.say(
            f"Process {self._stage.controller.pid} starts in its place. To make it harder, ECS's lists are a minute",
            "old from here, so that it cannot see the task.",
            f"It waits for the dead one's lease to run out, {duration(LEASE)}: it saves work, safety is not its part.",
        )

    def _idle(self) -> None:
        policy = self._stage.policy
        quiet = policy.idle_timeout + policy.clock_slack + SECOND
        self._teller.say(
            f"Lou leaves without closing her chats, John goes on. A container is idle {duration(policy.idle_timeout)}",
            f"after the last message (20 min by default), plus {duration(policy.clock_slack)} for writers' clocks.",
            f"So that nobody has to wait, Lou's last messages are dated {duration(quiet)} back.",
        )
        self._teller.breathe()
        cast = (LOU_SITE, LOU_SHOP)
        tasks = [task for identity in cast for task in self._stage.live(identity)]
        self._listen(*cast, widest_reason=Reason.IDLE)
        for session_id, identity in self._open.items():
            if identity in cast:
                self._stage.date_back(session_id, identity, quiet)
        self._open = {s: i for s, i in self._open.items() if i not in cast}
        self._until("two containers are stopped", self._does(Step.TERMINATED, *cast))
        for task, identity in zip(tasks, cast, strict=True):
            self._expect_stopped_by_us(task, DrainReason.IDLE)
            self._expect("status in the record", self._stage.record(identity).status, ContainerStatus.TERMINATED)
        self._expect_one_task(JOHN_WEBSITE, generation=1)
        self._expect_one_task(JOHN_SITE, generation=1)
        self._teller.checked(
            "Lou's two tasks are STOPPED, each after one more look at the sessions; John's two run on."
        )

    def _is_stopped(self, task: SeenTask) -> Callable[[], bool]:
        return lambda: self._stage.task(task.arn).status == "STOPPED"

    def _expect_stopped_by_us(self, task: SeenTask, why: DrainReason) -> None:
        now = self._stage.task(task.arn)
        self._expect(f"status of task {task.short}", now.status, "STOPPED")
        self._expect(f"why task {task.short} stopped", now.stopped_reason.partition(",")[0], f"{STOPPED_BY_US}{why}")

    # The end

    def _figures(self) -> None:
        self._listen()
        self._until("the last round ends", self._stage.rounds(1))
        before, leases_before = self._stage.writes()
        self._until(f"{ROUNDS_AT_REST} rounds at rest", self._stage.rounds(ROUNDS_AT_REST))
        after, leases_after = self._stage.writes()
        renewals = leases_after - leases_before
        figures = measure(self._stage, self._opened_at, Rest(ROUNDS_AT_REST, after - before - renewals, renewals))
        took = duration(self._stage.clock() - self._began)
        self._teller.figures(f"What came of it, measured in {took}", figures.rows(JOHN_SITE))
        self._expect("second tasks", figures.second_tasks, 0)
        self._expect("others' tasks touched", figures.others_touched, 0)
        self._expect("writes at rest", figures.rest.writes, 0)
