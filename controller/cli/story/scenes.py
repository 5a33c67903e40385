"""The story of the demo: each scene says what happens, lets it happen, and holds the outcome against the truth.

Where there are workspaces (stage.workshop), it also tells what becomes of the work in them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from controller.cli.story.figures import Rest, measure
from controller.cli.story.stage import NotAsTold, Planted, SeenTask
from controller.cli.story.stagecraft import PATIENCE
from controller.cli.story.work import Work
from controller.core.identity import ContainerIdentity
from controller.core.model import HOUR, MINUTE, SECOND, ActionKind, ContainerStatus, DrainReason, Millis, Reason, Step
from controller.core.words import duration
from controller.reconcile.leadership import LEASE

__all__ = ["JOHN_WEBSITE", "LOU_SITE", "Story"]

JOHN = "john@email.com"
LOU = "lou@zeta.io"
JOHN_WEBSITE = ContainerIdentity("ameliastamps", "website", JOHN)
JOHN_SITE = ContainerIdentity("zeta", "site", JOHN)
LOU_SITE = ContainerIdentity("zeta", "site", LOU)
LOU_SHOP = ContainerIdentity("zeta", "shop", LOU)
EVA_BLOG = ContainerIdentity("acme", "blog", "eva@acme.com")
"""Whom nobody knows any more."""

LOOKS_AT_REST = 3


class Story(Work):
    """Nine scenes, without workspaces eight, and the figures.

    Every claim is checked; one that does not hold ends the story with NotAsTold.
    """

    @property
    def scenes(self) -> Sequence[tuple[str, Callable[[], None]]]:
        """The titles, and what plays them."""
        taken_back = ("Lou writes while her work is saved", self._taken_back)
        return (
            ("Two people open three projects", self._two_people),
            ("A second chat shares the container", self._second_chat),
            ("A count that drifted", self._drifted_count),
            ("A second task for the same container", self._duplicate),
            ("A task that belongs to nobody", self._orphan),
            ("Somebody stops a task by hand", self._stopped_by_hand),
            ("The controller is killed between RunTask and its record", self._killed),
            *([taken_back] if self.stage.workshop else []),
            ("Nobody writes any more", self._idle),
        )

    def play(self) -> None:
        """Play all of it."""
        scenes = self.scenes
        for number, (title, scene) in enumerate(scenes, 1):
            # The figures take a while: time enough to read the last scene.
            self.teller.breathe()
            self.teller.scene(number, len(scenes), title)
            self._as_told(f"scene {number}/{len(scenes)}", scene)
        self._as_told("the end", self._figures)

    def _as_told(self, where: str, scene: Callable[[], None]) -> None:
        try:
            self.keep_typing()
            scene()
        except NotAsTold as failed:
            raise NotAsTold(
                f"{where} did not come out as told: {failed.what}",
                failed.why,
                "run it again; if it stays so, one of editctl's promises is broken: please report it",
            ) from failed

    # The scenes

    def _two_people(self) -> None:
        self.teller.say(
            "Each client, project and user gets one container, for as long as somebody chats with it.",
            f"{JOHN} opens a chat on ameliastamps/website, {LOU} one on zeta/site and one on zeta/shop.",
        )
        self.teller.breathe()
        self.listen()
        self.until("the controller starts", self.stage.leads)
        cast = (JOHN_WEBSITE, LOU_SITE, LOU_SHOP)
        self.listen(*cast)
        for number, identity in enumerate(cast, 1):
            self.opens(f"chat-{number}", identity)
        self.until("three containers start", self.starts(*cast))
        for identity in cast:
            self.expect_one_task(identity, generation=1)
        self.expect("tasks in ECS", len(self.stage.tasks()), len(cast))
        self.teller.checked(f"ECS runs {len(cast)} tasks, one for each, and each record names its own.")
        if self.stage.workshop:
            self.expect_begun(cast)
            self.teller.checked("in each, edit-agent has checked out the project and then started the workload.")

    def _second_chat(self) -> None:
        self.teller.say(
            f"{JOHN} opens a second chat on the website. Same client, project and user, so same container:",
            "a second one would cost twice and work on a copy.",
        )
        self.teller.breathe()
        before, calls = self.stage.live(JOHN_WEBSITE), self.stage.traffic.count("RunTask")
        self.listen(JOHN_WEBSITE)
        looks = self.stage.looks()
        self.opens("chat-4", JOHN_WEBSITE)
        self.until("the controller looks", looks)
        self._show_plan_of(JOHN_WEBSITE)
        task = self.expect_one_task(JOHN_WEBSITE, generation=1)
        self.expect("the task", [task], before)
        self.expect("sessions of the container", self.stage.rows(JOHN_WEBSITE), 2)
        self.expect("calls to RunTask", self.stage.traffic.count("RunTask"), calls)
        self.teller.checked(f"still task {task.short}, with sessionCount 2; RunTask was not called.")

    def _show_plan_of(self, identity: ContainerIdentity) -> None:
        actions = [a for a in self.stage.planner().view().plan.actions if a.container_id == identity.container_id]
        for action in actions:
            self.teller.line(action)
        self.expect("the plan", [a.kind for a in actions], [ActionKind.KEEP])

    def _drifted_count(self) -> None:
        self.teller.say(
            "John's second chat is closed by a writer that dies half-way: its row is gone, sessionCount still says 2.",
            "While the two disagree, nobody can say that the container is not wanted: it would run for ever.",
        )
        self.teller.breathe()
        self.listen(JOHN_WEBSITE)
        self.stage.lose_a_release("chat-4")
        del self.open["chat-4"]
        self.until("the count is repaired", self.does(Step.REPAIR_COUNT, JOHN_WEBSITE))
        self.expect_one_task(JOHN_WEBSITE, generation=1)
        self.expect("sessionCount", self.stage.record(JOHN_WEBSITE).session_count, 1)
        self.teller.checked("sessionCount 1, and 1 row.")

    def _duplicate(self) -> None:
        self.teller.say(
            "Somebody runs a second task for Lou's zeta/site, past the controller.",
            "Two agents on one workspace overwrite each other's work.",
        )
        self.teller.breathe()
        first = self.expect_one_task(LOU_SITE, generation=1)
        self.listen(LOU_SITE)
        second = self.stage.plant(Planted.DUPLICATE, LOU_SITE)
        self.until("the second task is stopped", lambda: self.stage.task(second.arn).status == "STOPPED")
        self.expect_stopped_by_us(second, DrainReason.SUPERSEDED)
        self.expect("the first task", self.expect_one_task(LOU_SITE, generation=1), first)
        self.teller.checked(f"task {second.short} is STOPPED; task {first.short}, which the record names, runs on.")
        if self.stage.workshop:
            self.expect_never_begun(second)
            self.teller.checked("the workload of the second one never started: its agent was not admitted.")

    def _orphan(self) -> None:
        age = 2 * HOUR
        self.teller.say(
            "A task with editctl's tags runs that no session and no record knows;",
            f"it is dated {duration(age)} back, since a young one is left alone.",
            "It would be billed for ever. The one beside it has no such tags: it is somebody else's and stays.",
        )
        self.teller.breathe()
        self.listen(EVA_BLOG)
        stranger = self.stage.plant(Planted.SOMEBODY_ELSES, None, age)
        orphan = self.stage.plant(Planted.ORPHAN, EVA_BLOG, age)
        self.until("the orphan is stopped", self.does(Step.TERMINATED, EVA_BLOG))
        self.expect_stopped_by_us(orphan, DrainReason.ORPHANED)
        self.expect("the other task", self.stage.task(stranger.arn).status, "RUNNING")
        self.teller.checked(
            f"two looks agreed and task {orphan.short} is STOPPED; task {stranger.short} was not touched."
        )

    def _stopped_by_hand(self) -> None:
        if self.stage.workshop:
            self.tell_of_a_page(LOU_SITE, "prices")
        self.teller.say(
            "Somebody stops the task of Lou's zeta/site in the console. Her chat is still active.",
            "The next one may only start when this one is gone: its last push could race with it.",
        )
        self.teller.breathe()
        lost = self.expect_one_task(LOU_SITE, generation=1)
        self.listen(LOU_SITE)
        self.stage.ecs.stop_by_hand(lost.arn, "Stopped by hand")
        self.until("the container is back", self.starts(LOU_SITE))
        new = self.expect_one_task(LOU_SITE, generation=2)
        after = new.created_at - (self.stage.task(lost.arn).stopped_at or new.created_at + 1)
        self.expect(f"a start before task {lost.short} was gone", after < 0, False)
        self.teller.checked(
            f"task {new.short} runs in place of task {lost.short}, started {duration(after)} after that one was gone;",
            "the chat is the same.",
        )
        if self.stage.workshop:
            self.tell_of_what_came_back(lost, new)

    def _killed(self) -> None:
        calls, tasks = self.stage.traffic.count("RunTask"), len(self.stage.tasks())
        self.teller.say(
            f"{JOHN} opens a chat on zeta/site: another user, so another container.",
            "The controller dies at the worst moment: ECS has started the task, and the answer is still on its way.",
        )
        self.teller.breathe()
        self.listen(JOHN_SITE)
        task = self._kill_in_run_task("chat-5", JOHN_SITE)
        self._restart_blind(task)
        self.until("the new controller takes over", self.starts(JOHN_SITE), within=2 * PATIENCE)
        self.stage.ecs.quirks.list_lag_ms = 0
        self.expect("the task", self.expect_one_task(JOHN_SITE, generation=1).arn, task.arn)
        self.expect("more calls to RunTask", self.stage.traffic.count("RunTask") - calls, 2)
        self.expect("more tasks in ECS", len(self.stage.tasks()) - tasks, 1)
        self.teller.checked(
            f"RunTask was called twice, with the client token of the record: ECS gave task {task.short} both times. "
            "No second task."
        )

    def _kill_in_run_task(self, session_id: str, identity: ContainerIdentity) -> SeenTask:
        """Let the controller launch the container and kill it before it gets RunTask's answer; return the task."""
        traffic = self.stage.traffic
        traffic.hold("RunTask")
        self.opens(session_id, identity)
        self.until("the controller calls RunTask", lambda: traffic.holds_a_reply)
        self.stage.controller.kill()
        traffic.let_go()
        self.expect("how the controller ended", self.stage.controller.exit_code, -signal.SIGKILL)
        self.expect("a launch without an answer in the record", self.stage.record(identity).awaits_arn, True)
        live = self.stage.live(identity)
        self.expect("live tasks", len(live), 1)
        return live[0]

    def _restart_blind(self, task: SeenTask) -> None:
        """Start a controller that cannot see the task in ECS's lists."""
        killed = self.stage.controller.pid
        self.teller.say(
            f"SIGKILL for process {killed}. Task {task.short} runs, and the record says starting and names no task:",
            "a restart that takes this for a failed start pays for two.",
        )
        if self.stage.workshop:
            self.tell_of_an_agent_that_waits(task)
        self.stage.ecs.quirks.list_lag_ms = MINUTE
        self.stage.start_controller()
        self.teller.say(
            f"Process {self.stage.controller.pid} starts in its place. To make it harder, ECS's lists are a minute",
            "old from here, so that it cannot see the task.",
            f"It waits until the dead one's lease has run out, {duration(LEASE)}; the lease only saves double work.",
        )

    def _taken_back(self) -> None:
        self.teller.say(
            "Lou has another page made on zeta/site and falls idle. Before anything is stopped, the agent freezes the",
            "workload and pushes what is not committed. Just then she writes again.",
            "So that you can watch, the repository keeps the push waiting until she has.",
        )
        self.teller.breathe()
        self.tell_of_a_drain_taken_back(LOU_SITE, generation=2, quiet=self._quiet)

    @property
    def _quiet(self) -> Millis:
        """How long ago the last message must be for a container to be idle."""
        return self.stage.policy.idle_timeout + self.stage.policy.clock_slack + SECOND

    def _idle(self) -> None:
        policy = self.stage.policy
        self.teller.say(
            "Lou leaves without closing her chats, John goes on.",
            f"A container is idle {duration(policy.idle_timeout)} after the last message (20 min by default), plus",
            f"{duration(policy.clock_slack)} in case a writer's clock is off.",
            f"So that nobody has to wait, Lou's chats are dated {duration(self._quiet)} back.",
        )
        self.teller.breathe()
        cast = (LOU_SITE, LOU_SHOP)
        tasks = (self.expect_one_task(LOU_SITE, generation=2), self.expect_one_task(LOU_SHOP, generation=1))
        if self.stage.workshop:
            self.makes(tasks[1], "shipping")
        self.listen(*cast, widest_reason=Reason.IDLE)
        for session_id in [s for s, identity in self.open.items() if identity in cast]:
            self.stage.date_back(session_id, self.open.pop(session_id), self._quiet)
        self.until("two containers are stopped", self.does(Step.TERMINATED, *cast))
        for task, identity in zip(tasks, cast, strict=True):
            self.expect_stopped_by_us(task, DrainReason.IDLE)
            self.expect("status in the record", self.stage.record(identity).status, ContainerStatus.TERMINATED)
        self.expect_one_task(JOHN_WEBSITE, generation=1)
        self.expect_one_task(JOHN_SITE, generation=1)
        if self.stage.workshop:
            self.tell_of_receipts(tasks)
        self.teller.checked("Lou's two tasks are STOPPED, each after one more look at the sessions; John's two run on.")

    # The end

    def _figures(self) -> None:
        self.listen()
        self.until("the last round ends", self.stage.looks_again())
        before, leases_before = self.stage.writes()
        for number in range(LOOKS_AT_REST):
            self.until(f"look {number + 1} of {LOOKS_AT_REST} at rest", self.stage.looks_again())
        after, leases_after = self.stage.writes()
        renewals = leases_after - leases_before
        figures = measure(self.stage, self.opened_at, Rest(LOOKS_AT_REST, after - before - renewals, renewals))
        took = duration(self.stage.clock() - self.began)
        self.teller.figures(f"What came of it, measured in {took}", figures.rows(JOHN_SITE))
        self.expect("second tasks", figures.second_tasks, 0)
        self.expect("others' tasks touched", figures.others_touched, 0)
        self.expect("writes at rest", figures.rest.writes, 0)
        if figures.saves:
            self.expect("saves that the remote has", figures.saves.at_the_remote, figures.saves.number)
