"""The whole system on one clock: the real reconciler and the real ECS adapter on the strict ECS, tables in memory.

A `Simulation` is a world that lives: session writers write, ECS moves tasks along, rounds run. What must never happen
is checked at the moment it would happen: when a stop is confirmed, and inside StopTask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from controller.aws.rows import RECORDS, SESSIONS, parse_all, parse_session
from controller.aws.tasks import EcsSettings, Tasks
from controller.core.identity import ContainerIdentity, environment_for, tags_for
from controller.core.ledger import RecordWrite
from controller.core.model import ActionKind, ContainerRecord, ContainerStatus, OutcomeStatus, Session
from controller.core.policy import Policy
from controller.core.usage import idle_timeout_of, session_use
from controller.local.ecs import StrictEcs, Timings
from controller.reconcile.apply import Applier
from controller.reconcile.keepalives import Keepalives
from controller.reconcile.observe import Observer
from controller.reconcile.reconciler import Planner, Reconciler, Round
from controller.sessions import SessionRegistry
from tests.fakes.agents import FakeAgents
from tests.fakes.clock import FakeClock
from tests.fakes.ecs_client import StrictEcsClient
from tests.fakes.tables import FakeTables

CLUSTER = "webordinary"
SETTINGS = EcsSettings(subnets=("subnet-1",), security_groups=("sg-1",))
DEFINITION = {
    "family": "webordinary-edit",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "1024",
    "memory": "2048",
    "containerDefinitions": [{"name": "edit-container", "image": "edit", "essential": True}],
}
QUICK = Timings(0.2, 0.2, 0.1, 0.1, 0.2, 0.2)


class Broken(AssertionError):
    """A promise was broken."""


class GuardedEcs(StrictEcsClient):
    """The ECS client of the controllers, which looks at the truth before it lets a StopTask through."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.ecs)
        self.simulation = simulation

    def stop_task(self, **parameters: Any) -> dict[str, Any]:
        arn = parameters["task"]
        self.simulation.check_stop(arn)
        if self.simulation.policy.agents:
            self.simulation.ecs.exit_on_stop(arn, self.simulation.agents.ends(arn))
        return super().stop_task(**parameters)

    def run_task(self, **parameters: Any) -> dict[str, Any]:
        answer = super().run_task(**parameters)
        self.simulation.launched |= {task["taskArn"] for task in answer["tasks"]}
        return answer


class WatchedTables(FakeTables):
    """The tables, which look at the truth when a stop is confirmed."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.clock)
        self.simulation = simulation

    def write(self, write: RecordWrite) -> ContainerRecord:
        before = self.row(RECORDS, write.container_id) or {}
        record = super().write(write)
        if ("drain", "confirmedAt") in write.set:
            self.simulation.check_confirmation(write.container_id)
        if ("sessionCount",) in write.set:
            self.simulation.check_count(write.container_id, before.get("sessionCount"), record.session_count)
        if ("generation",) in write.set and before.get("generation", 0) > (record.generation or 0):
            raise Broken(f"the record of {write.container_id} went back to generation {record.generation}")
        if before.get("taskArn") and record.task_arn and before["taskArn"] != record.task_arn:
            raise Broken(f"the record of {write.container_id} was re-pointed from a task to another")
        return record


class Simulation:
    """One account with its writers, and any number of controllers."""

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        timings: Timings = QUICK,
        clock: FakeClock | None = None,
        agents: bool = False,
        workers: int = 1,
    ) -> None:
        self.clock = clock or FakeClock()
        self.policy = replace(policy or Policy(), agents=agents)
        self.agents = FakeAgents(self.clock)
        self.ecs = StrictEcs(self.clock, timings=timings, region="eu-west-1")
        self.ecs.call("CreateCluster", {"clusterName": CLUSTER})
        self.ecs.call("RegisterTaskDefinition", DEFINITION)
        self.tables = WatchedTables(self)
        self.registry = SessionRegistry(self.tables, self.policy, self.clock, lambda _: None)
        self.stopped: list[str] = []
        self.launched: set[str] = set()
        self.written_by_originals: set[str] = set()
        self.workers = workers
        self.controller = self.new_controller()

    def new_controller(self, wrap: Callable[[Any], Any] = lambda port: port) -> Reconciler:
        """Return a controller as a fresh process would build it; wrap goes around its tables, ECS client and agents."""
        tables, tasks = wrap(self.tables), Tasks(wrap(GuardedEcs(self)), self._settings(), self.clock)
        agents = wrap(self.agents) if self.policy.agents else None
        observer = Observer(tables, tasks, self.clock, cluster=CLUSTER)
        key_id = "k1" if agents else ""
        applier = Applier(tables, tasks, self.policy, self.clock, agents=agents, key_id=key_id, workers=self.workers)
        keepalives = Keepalives(agents, self.policy, self.clock, workers=1) if agents else None
        planner = Planner(observer, self.policy, self.clock, agents)
        return Reconciler(planner, applier, tables, keepalives=keepalives)

    def _settings(self) -> EcsSettings:
        return replace(SETTINGS, environment=self.agents.environment) if self.policy.agents else SETTINGS

    # What happens

    def round(self) -> Round:
        """Run one round and check what must hold after it."""
        done = self.controller.round()
        self.check()
        return done

    def settle(self, *, most: int = 12, step: float = 2) -> int:
        """Run rounds until one does nothing, ECS moving on in between.

        Return the rounds of progress: the most that any one container's launch or stop, count, or second task took,
        bookkeeping aside.
        """
        progress: Counter[tuple[str, bool]] = Counter()
        for _ in range(most):
            outcomes = [o for o in self.round().outcomes if o.status is not OutcomeStatus.SKIPPED]
            if not outcomes and not self._in_motion():
                return max(progress.values(), default=0)
            progress.update(
                {
                    (o.action.key, o.action.kind is ActionKind.COUNT)
                    for o in outcomes
                    if o.action.kind is not ActionKind.RECORD
                }
            )
            self.clock.step(seconds=step)
        raise Broken(f"not at rest after {most} rounds: {[str(a.reason) for a in self.round().plan.changes]}")

    def _in_motion(self) -> bool:
        return any(t["lastStatus"] not in ("RUNNING", "STOPPED") for t in self.tasks())

    def launch(
        self,
        identity: ContainerIdentity,
        *,
        tags: dict[str, str] | None = None,
        started_by: str = "editctl/default",
        generation: int = 1,
        environment: bool = True,
        family: str = "webordinary-edit",
    ) -> str:
        """Run a task by hand, marked as ours unless told otherwise, and return its ARN."""
        pairs = tags_for(identity, "default") if tags is None else tags
        variables = environment_for(identity, generation, "default", 20) if environment else {"OTHER": "1"}
        if environment and self.policy.agents and started_by == "editctl/default":
            variables |= self.agents.environment(identity, generation)
        answer = self.ecs.call(
            "RunTask",
            {
                "cluster": CLUSTER,
                "taskDefinition": family,
                "startedBy": started_by,
                "launchType": "FARGATE",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
                "tags": [{"key": k, "value": v} for k, v in pairs.items()],
                "overrides": {
                    "containerOverrides": [
                        {
                            "name": "edit-container",
                            "environment": [{"name": n, "value": v} for n, v in variables.items()],
                        }
                    ]
                },
            },
        )
        return str(answer["tasks"][0]["taskArn"])

    # What is

    def tasks(self) -> list[dict[str, Any]]:
        """Return all tasks as they truly are."""
        return self.ecs.snapshot()

    def live(self, container_id: str | None = None) -> list[dict[str, Any]]:
        """Return the tasks whose desiredStatus is RUNNING, of one container or of all."""
        return [
            t
            for t in self.tasks()
            if t["desiredStatus"] == "RUNNING"
            and t["lastStatus"] != "STOPPED"
            and (container_id is None or container_of(t) == container_id)
        ]

    def sessions(self, container_id: str) -> list[Session]:
        """Return the rows of one container as they truly are."""
        rows, _ = parse_all(self.tables.rows[SESSIONS].values(), parse_session, "sessionId")
        return [s for s in rows if s.container_id == container_id]

    def writes(self) -> int:
        """Return how many writes to tables and ECS the controllers and registries have made."""
        changing = ("RunTask", "StopTask", "TagResource")
        return len(self.tables.log) + sum(self.ecs.calls[name] for name in changing)

    # What must hold

    def check(self) -> None:
        """S1, S4: one launched live task an identity; no count of ours below zero."""
        launched = Counter(container_of(t) for t in self.live() if t["taskArn"] in self.launched)
        twice = [container_id for container_id, n in launched.items() if n > 1]
        if twice:
            raise Broken(f"S1: two launched live tasks for {twice}")

    def check_stop(self, arn: str) -> None:
        """S2, S3: at StopTask, the truth must allow it."""
        task = next((t for t in self.tasks() if t["taskArn"] == arn), None)
        self.stopped.append(arn)
        if task is None:
            return
        tags = {t["key"]: t["value"] for t in task.get("tags", ())}
        if tags and tags.get("ManagedBy") not in (None, "editctl"):
            raise Broken(f"S3: StopTask of a foreign task {arn}")
        if tags.get("ManagedBy") == "editctl" and tags.get("Controller") != "default":
            raise Broken(f"S3: StopTask of another controller's task {arn}")
        container_id = container_of(task)
        record = self.tables.get_record(container_id)
        if record is None:
            raise Broken(f"S2: StopTask without a record for {container_id}")
        if record.task_arn != arn:
            self.check_superseded(arn)  # the record has passed it by
            return
        if record.status is not ContainerStatus.STOPPING or record.drain is None or record.drain.confirmed_at is None:
            raise Broken(f"S2: StopTask of the named task, whose record says {record.status}")

    def check_superseded(self, arn: str) -> None:
        """A superseded task whose agent can be asked and whose remote is up is stopped when all of it is saved."""
        agents = self.agents
        if not self.policy.agents or arn in agents.unreachable or agents.remote_down or not agents.of(arn).admitted:
            return
        agent = agents.of(arn)
        if not agent.frozen or agent.receipt_at != agent.work:
            raise Broken(f"StopTask of the superseded {arn} with {agent.work - agent.pushed} changes not saved")

    def check_confirmation(self, container_id: str) -> None:
        """S2: at the write from which nobody goes back, no session of ours may be active."""
        record = self.tables.get_record(container_id)
        if record is None or record.drain is None or record.drain.reason.is_forced:
            return
        if record.hold and record.hold.in_force(self.clock()):
            raise Broken(f"the stop of {container_id} is confirmed under a hold")
        quiet = idle_timeout_of(record, self.policy)
        active = [
            s.session_id
            for s in self.sessions(container_id)
            if not s.is_original and session_use(s, self.policy, quiet, {}, self.clock()).active
        ]
        if active:
            raise Broken(f"S2: the stop of {container_id} is confirmed while {active} are active")

    def check_count(self, container_id: str, before: int | None, after: int | None) -> None:
        """S4: a repair never makes a right count wrong, as long as only our writers write.

        An original one that deletes its row between look and repair is not seen by any condition; the next round
        repairs the repair.
        """
        if container_id in self.written_by_originals:
            return
        rows = len(self.sessions(container_id))
        if (before or 0) == rows and after != rows:
            raise Broken(f"S4: the right count {rows} of {container_id} was set to {after}")


def container_of(task: dict[str, Any]) -> str:
    """Return the container id in a task's environment, or in its tags."""
    for override in task.get("overrides", {}).get("containerOverrides", ()):
        for variable in override.get("environment", ()):
            if variable["name"] == "CONTAINER_ID":
                return str(variable["value"])
    return next((t["value"] for t in task.get("tags", ()) if t["key"] == "ContainerId"), "")


def rounds(simulation: Simulation, n: int, seconds: float = 2) -> Sequence[Round]:
    """Run so many rounds, so many seconds apart."""
    out = []
    for _ in range(n):
        out.append(simulation.round())
        simulation.clock.step(seconds=seconds)
    return out
