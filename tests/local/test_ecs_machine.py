"""Whatever is done in whatever order: what must hold of every ECS at every instant."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.local.ecs import EcsError
from tests.local.world import CLUSTER, World, address

ORDER = (
    "PROVISIONING",
    "PENDING",
    "ACTIVATING",
    "RUNNING",
    "DEACTIVATING",
    "STOPPING",
    "DEPROVISIONING",
    "STOPPED",
)


class EcsMachine(RuleBasedStateMachine):
    """Runs, stops and kills tasks at random; remembers what it has seen of each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.seen: dict[str, dict[str, Any]] = {}
        self.by_token: dict[str, str] = {}

    @rule(token=st.sampled_from(["a", "b", "c"]), refused=st.booleans())
    def run(self, token: str, refused: bool) -> None:
        before = {task["taskArn"] for task in self.world.ecs.snapshot()}
        if refused:
            self.world.ecs.faults.refuse_placement(appears_after_ms=5000)
        answer = self.world.run(clientToken=token)
        self.world.ecs.faults.clear()
        # ECS_Idempotency: a token is answered with the task it was first answered with, or with a new one.
        for task in answer["tasks"]:
            if task["taskArn"] in before:
                assert self.by_token[token] == task["taskArn"]
            self.by_token[token] = task["taskArn"]
        assert len(answer["tasks"]) + len(answer["failures"]) == 1

    @rule(pick=st.integers(0, 30))
    def stop(self, pick: int) -> None:
        self._on_one(pick, lambda arn: self.world.stop(arn))

    @rule(pick=st.integers(0, 30), code=st.integers(0, 255))
    def exit(self, pick: int, code: int) -> None:
        self._on_one(pick, lambda arn: self.world.ecs.exit_task(arn, code))

    @rule(seconds=st.sampled_from([0.001, 1, 2, 3, 10, 20, 35, 600, 3600, 90_000]))
    def wait(self, seconds: float) -> None:
        self.world.clock.step(seconds=seconds)

    @invariant()
    def holds(self) -> None:
        tasks = self.world.ecs.snapshot()
        # Addresses are distinct among tasks that hold one.
        held = [address(task) for task in tasks if address(task) and task["lastStatus"] != "STOPPED"]
        assert len(set(held)) == len(held)
        for task in tasks:
            old = self.seen.get(task["taskArn"])
            if old is not None:
                self._went_forward(old, task)
            self.seen[task["taskArn"]] = task
            # Task lifecycle: what ends is desired to be STOPPED, and says why.
            ending = ORDER.index(task["lastStatus"]) > ORDER.index("RUNNING")
            assert ending is (task["desiredStatus"] == "STOPPED") is ("stopCode" in task)

    @invariant()
    def lists_agree(self) -> None:
        running, stopped = self.world.listed(), self.world.listed(desiredStatus="STOPPED")
        assert not set(running) & set(stopped)
        for arn in (*running, *stopped):
            assert self.world.task(arn)["desiredStatus"] == ("RUNNING" if arn in running else "STOPPED")

    def _went_forward(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        assert ORDER.index(new["lastStatus"]) >= ORDER.index(old["lastStatus"])
        assert new["version"] >= old["version"]
        # APIReference Task, version: the same version is the same state.
        assert (new["version"] == old["version"]) is (new["lastStatus"] == old["lastStatus"])
        for name, value in old.items():
            if name.endswith("At") or name in ("stopCode", "stoppedReason", "overrides", "startedBy"):
                assert new[name] == value

    def _on_one(self, pick: int, act: Any) -> None:
        arns = self.world.call("ListTasks", cluster=CLUSTER)["taskArns"]
        if arns:
            try:
                act(arns[pick % len(arns)])
            except EcsError as error:
                raise AssertionError(error) from error


EcsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestEcsMachine = EcsMachine.TestCase
