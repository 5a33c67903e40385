"""What the scenes tell of workspaces: what is in them, what is saved, and what comes back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from controller.cli.story.stage import NotAsTold, SeenTask
from controller.cli.story.stagecraft import Stagecraft
from controller.cli.story.workshop import MAIN, Saved, Tree, Workshop
from controller.core.identity import ContainerIdentity
from controller.core.model import ContainerStatus, Millis, Reason, Save, Step
from controller.core.words import counted, duration

__all__ = ["Work"]

T = TypeVar("T")

_BEFORE_WORK = ("restored", "workloadStarted")


class Work(Stagecraft):
    """The part of a scene that needs workspaces. Only to be called where there are some."""

    @property
    def _shop(self) -> Workshop:
        assert self.stage.workshop is not None
        return self.stage.workshop

    # Before any work

    def expect_begun(self, cast: Collection[ContainerIdentity]) -> None:
        """Check that each container's workspace is what its project is, and that its workload has started."""
        for identity in cast:
            (task,) = self.stage.live(identity)
            self._await_workload(task)
            logged = [event["event"] for event in self._shop.log(task.arn) if event["event"] in _BEFORE_WORK]
            self.expect("what its agent did first", logged, list(_BEFORE_WORK))
            self._expect_files(f"of {identity.container_id}", self._files(task), self._shop.saved_files(identity, MAIN))
            self.expect("what git says of them", self._shop.status(task.arn), "")

    def _await_workload(self, task: SeenTask) -> None:
        self.until("the workload starts", lambda: self._shop.has_logged(task.arn, "workloadStarted"))

    def _files(self, task: SeenTask) -> Tree:
        return self._shop.files(task.arn)

    def _expect_files(self, where: str, found: Tree, expected: Tree) -> None:
        """Check that the files are the same in name, mode and every byte."""
        differ = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
        self.expect(f"files {where} that are not as they were", differ, [])

    def expect_never_begun(self, task: SeenTask) -> None:
        """Check that the workload of a task has not started."""
        self.expect("a workload that started", self._shop.has_logged(task.arn, "workloadStarted"), False)

    def tell_of_an_agent_that_waits(self, task: SeenTask) -> None:
        """Tell that the agent of a task that no record names is ready, and lets nobody work."""
        shop = self._shop
        self.until("its agent is ready", lambda: shop.has_logged(task.arn, "restored"), needs_controller=False)
        self.expect(
            "a task in the record", self.stage.record(_needed(task.identity, "identity in the task")).task_arn, None
        )
        self.expect_never_begun(task)
        self.teller.say("Its agent has the workspace ready and waits: nobody works in a task that no record names.")

    # Work

    def makes(self, task: SeenTask, page: str) -> None:
        """Let the workload of a task make a page."""
        self.until("the page is made", self._shop.ask(task.arn, page))

    def tell_of_a_page(self, identity: ContainerIdentity, page: str) -> None:
        """Let the workload make a page, and tell what it left in the workspace."""
        task = self.expect_one_task(identity, generation=1)
        self.makes(task, page)
        changed, new = self._uncommitted(identity, self._files(task))
        self.expect("files that are changed and new", (changed, new), (1, 3))
        self.teller.say(
            f"Lou has had a page '{page}' made. It is in her workspace and nowhere else: {changed} file changed,",
            f"{new} new, one of them an image, nothing committed.",
        )

    def _uncommitted(self, identity: ContainerIdentity, files: Tree) -> tuple[int, int]:
        """Return how many files are not as they are on main, and how many are not there."""
        main = self._shop.saved_files(identity, MAIN)
        return sum(1 for path in main if files.get(path) != main[path]), len(files.keys() - main.keys())

    # Saved and back

    def tell_of_what_came_back(self, lost: SeenTask, new: SeenTask) -> None:
        """Tell that a task has the work of the one before it."""
        identity = _needed(new.identity, "identity in the task")
        before = self._files(lost)
        self._await_workload(new)
        save = self._one_save(lost, identity)
        self._expect_saved(save, before)
        self._expect_files("of the new workspace", self._files(new), before)
        self.expect("what git says of them", self._shop.status(new.arn), self._shop.status(lost.arn))
        changed, added = self._uncommitted(identity, before)
        self.teller.checked(
            f"on its SIGTERM task {lost.short} pushed {_place(self._shop, save)}; main has not moved.",
            f"In task {new.short} the work is back, byte for byte and as uncommitted as it was:",
            f"{counted(changed, 'changed file')}, {added} new.",
        )

    def _one_save(self, task: SeenTask, identity: ContainerIdentity, drain: int | None = None) -> Saved:
        """Check that a task has saved once, under this drain if one is given, and return the save."""
        saves = [s for s in self._shop.saves(task.arn, identity) if drain is None or s.drain == drain]
        self.expect(f"saves of task {task.short}", len(saves), 1)
        return saves[0]

    def _expect_saved(self, save: Saved, files: Tree) -> None:
        """Check that the remote has a save and these files in it, and that nothing else of the project moved."""
        identity = save.identity
        self.expect("the commit at the remote", self._shop.commit(identity), save.commit)
        self._expect_files("at the remote", self._shop.saved_files(identity), files)
        self.expect("commits on main", len(self._shop.history(identity, MAIN)), 1)

    def tell_of_receipts(self, tasks: Sequence[SeenTask]) -> None:
        """Tell what the agents of tasks that are stopped have given receipts for, and check it at the remote."""
        for task in tasks:
            identity = _needed(task.identity, "identity in the task")
            record = self.stage.record(identity)
            drain, receipt = _needed(record.drain, "drain in the record"), record.save or Save("")
            save = self._one_save(task, identity, drain.id)
            told = (receipt.state, receipt.branch.removeprefix("refs/heads/"), receipt.commit, receipt.remote_commit)
            ref = self._shop.ref(identity).removeprefix("refs/heads/")
            self.expect("the receipt in the record", told, ("saved", ref, save.commit, save.commit))
            self._expect_saved(save, self._files(task))
            took = duration(save.at - drain.requested_at)
            self.teller.receipt(
                f"{identity.container_id}: {counted(save.files, 'file')} to {_place(self._shop, save)},",
                f"confirmed by the remote {took} after the drain began",
            )
        self.teller.checked("the remote has both commits, with every file of the workspaces in them, byte for byte.")

    # A drain that is taken back

    def tell_of_a_drain_taken_back(self, identity: ContainerIdentity, generation: int, quiet: Millis) -> None:
        """Let a container fall idle and its user write while it is saved; check that it goes on as if nothing was."""
        shop, stage = self._shop, self.stage
        task = self.expect_one_task(identity, generation)
        chats = [session_id for session_id, whose in self.open.items() if whose == identity]
        self.listen(identity, widest_reason=Reason.SESSION_ACTIVE)
        self.makes(task, "team")
        shop.hold_pushes(identity)
        for session_id in chats:
            stage.date_back(session_id, identity, quiet)
        self.until("its agent pushes", lambda: shop.holds_a_push(identity))
        self.expect("status in the record", stage.record(identity).status, ContainerStatus.DRAINING)
        self.expect("a frozen workload", shop.is_frozen(task.arn), True)
        is_made = shop.ask(task.arn, "news")
        self.teller.say("It is frozen, and the push waits. Lou asks for a page 'news':")
        wrote_at = stage.clock()
        for session_id in chats:
            stage.registry.touch(session_id)
        self.until("the drain is taken back", self.does(Step.CANCEL_DRAIN, identity))
        self.until("her page is made", is_made)
        took = duration(stage.clock() - wrote_at)
        self.expect("a frozen workload", shop.is_frozen(task.arn), False)
        self.expect("saves that have ended", list(shop.saves(task.arn, identity)), [])
        shop.let_pushes_go(identity)
        self.until("the save ends", lambda: any(True for _ in shop.saves(task.arn, identity)))
        self.until("the controller has seen it", stage.looks_again())
        self.expect("the task", self.expect_one_task(identity, generation).arn, task.arn)
        self.teller.checked(
            f"thawed, and the page made {took} after she wrote, while the push still waited. That save has ended since",
            f"and has stopped nothing: task {task.short} runs.",
        )


def _place(shop: Workshop, save: Saved) -> str:
    return f"{shop.ref(save.identity).removeprefix('refs/heads/')} {save.commit[:7]}"


def _needed(value: T | None, what: str) -> T:
    if value is None:
        raise NotAsTold(f"there is no {what}")
    return value
