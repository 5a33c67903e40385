"""The program under its own policies: sessions are written, containers started, adopted, saved and stopped.

Each part has the role that it has when deployed, in front of a local AWS that knows no permissions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.assembly import Assembly
from controller.aws.client import Clients, ClientSettings, connect
from controller.aws.lease import LeaseTable
from controller.config import Config
from controller.core.identity import ContainerIdentity
from controller.core.model import Session
from controller.core.reads import Lease
from controller.errors import AccessDenied, ClusterNotFound
from controller.local.lifecycle import Timings
from controller.local.server import LocalEndpoint
from controller.reconcile.reconciler import Reconciler
from manifests.aws import policies
from tests.fakes.clock import FakeClock
from tests.manifests.guard import Guard
from tests.manifests.permissions import EXECUTION_ROLE, REGION, TASK_ROLE, VALUES

TOM = ContainerIdentity("acme", "blog", "tom")
EVA = ContainerIdentity("acme", "shop", "eva")
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}


class Installation:
    """A local AWS in which each part has its role."""

    def __init__(self, endpoint: LocalEndpoint, clock: FakeClock, **settings: Any) -> None:
        self.clock = clock
        self.account = endpoint.account
        self.meanwhile: Callable[[], object] = lambda: None
        self.behind = connect(ClientSettings(region=REGION, endpoint_url=endpoint.url))
        self.config = Config(subnets=("subnet-1",), security_groups=("sg-1",), **settings)
        self._set_up()
        self.controller = self.role("controller", *(["controller-families"] if self.config.family_per_project else []))
        self.writer = self.role("session-writer")
        self.operator = self.role("operator")

    def _set_up(self) -> None:
        Assembly(self.config, clock=self.clock, clients=self.behind, local=True).create_tables()
        ecs: Any = self.behind.ecs
        ecs.register_task_definition(
            family=VALUES["TaskFamily"],
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            taskRoleArn=TASK_ROLE,
            executionRoleArn=EXECUTION_ROLE,
            containerDefinitions=[{"name": "edit-container", "image": "edit:1", "essential": True}],
        )

    def role(self, *names: str, **values: str) -> Guard:
        """Return a role of this account that has these policies."""
        known = VALUES | {"Account": self.account} | values
        return Guard([policies.policy(name, known) for name in names], self.account)

    def parts(self, role: Guard, **changed: Any) -> Assembly:
        """Return the program as somebody with this role runs it."""
        config = self.config.model_copy(update=changed)
        return Assembly(config, clock=self.clock, wait=self._wait, clients=role.clients(self.behind))

    def _wait(self, seconds: float) -> None:
        self.clock.step(seconds=seconds)
        self.meanwhile()

    def rest(self, reconciler: Reconciler) -> None:
        """Run rounds until two in a row have nothing to do."""
        quiet = 0
        for _ in range(60):
            quiet = 0 if reconciler.round().progressed else quiet + 1
            if quiet == 2:
                return
            self.clock.step(seconds=3)
        raise AssertionError("the controller does not come to rest")

    def original_task(self, identity: ContainerIdentity) -> str:
        """Start a task as the original system does."""
        tags = {"ContainerId": identity.container_id, "ClientId": identity.client_id, "ProjectId": identity.project_id}
        environment = {"CLIENT_ID": identity.client_id, "PROJECT_ID": identity.project_id, "USER_ID": identity.user_id}
        answer = self.behind.ecs.run_task(
            cluster=self.config.cluster,
            taskDefinition=VALUES["TaskFamily"],
            launchType="FARGATE",
            networkConfiguration=NETWORK,
            tags=[{"key": k, "value": v} for k, v in tags.items()],
            overrides={
                "containerOverrides": [
                    {"name": "edit-container", "environment": [{"name": k, "value": v} for k, v in environment.items()]}
                ]
            },
        )
        return str(answer["tasks"][0]["taskArn"])

    def live(self) -> list[str]:
        """Return the ARNs of the tasks that are not stopping."""
        found = self.behind.ecs.list_tasks(cluster=self.config.cluster, desiredStatus="RUNNING")["taskArns"]
        return sorted(found)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def install(clock: FakeClock) -> Iterator[Callable[..., Installation]]:
    """Return what makes an installation on an endpoint of its own."""
    endpoint = LocalEndpoint(clock=clock, timings=Timings.fast(), region=REGION)
    with endpoint:
        yield lambda **settings: Installation(endpoint, clock, **settings)


def test_a_container_lives_and_ends_under_the_policies(install):
    here = install()
    reconciler = here.parts(here.controller).reconciler()
    sessions = here.parts(here.writer).registry()
    here.rest(reconciler)
    queue: Any = here.behind.sqs
    url = queue.create_queue(QueueName="webordinary-input-s1")["QueueUrl"]
    assert sessions.open("s1", TOM, input_queue_url=url)
    here.rest(reconciler)
    assert len(here.live()) == 1
    sessions.touch("s1")
    here.clock.step(minutes=30)
    sessions.release("s1")
    here.rest(reconciler)
    here.clock.step(minutes=21)
    here.rest(reconciler)
    assert here.live() == []
    assert here.controller.refused == here.writer.refused == []
    assert {"ecs:RunTask", "ecs:TagResource", "iam:PassRole", "ecs:StopTask"} <= here.controller.actions


def test_the_queue_of_an_open_session_is_looked_into(install):
    here = install()
    reconciler = here.parts(here.controller).reconciler()
    queue: Any = here.behind.sqs
    url = queue.create_queue(QueueName="webordinary-input-s1")["QueueUrl"]
    here.parts(here.writer).registry().open("s1", TOM, input_queue_url=url)
    here.rest(reconciler)
    here.clock.step(minutes=21)
    here.rest(reconciler)
    assert here.live() == []
    assert "sqs:GetQueueAttributes" in here.controller.actions
    assert here.controller.refused == []


def test_somebody_waits_for_a_container(install):
    here = install()
    sessions = here.parts(here.writer).registry()
    reconciler = here.parts(here.controller).reconciler()
    here.meanwhile = lambda: reconciler.round()
    assert sessions.get_or_create_container(TOM).task_arn in here.live()
    assert here.writer.refused == here.controller.refused == []


def test_tasks_of_the_original_are_adopted_and_a_second_one_is_stopped(install):
    here = install()
    first = here.original_task(TOM)
    here.clock.step(seconds=1)
    second = here.original_task(TOM)
    here.parts(here.writer).registry().open("s1", TOM)
    here.clock.step(minutes=6)
    here.rest(here.parts(here.controller).reconciler())
    assert len(here.live()) == 1
    assert here.live()[0] in (first, second)
    assert here.controller.refused == []


def test_a_family_for_each_project(install):
    here = install(family_per_project=True)
    here.parts(here.writer).registry().open("s1", TOM)
    here.rest(here.parts(here.controller).reconciler())
    assert len(here.live()) == 1
    assert "ecs:RegisterTaskDefinition" in here.controller.actions
    assert here.controller.refused == []


def test_without_their_own_policy_families_are_refused(install):
    here = install(family_per_project=True)
    here.parts(here.writer).registry().open("s1", TOM)
    plain = here.role("controller")
    here.parts(plain).reconciler().round()
    assert here.live() == []
    assert {request.action for request in plain.refused} == {"ecs:RegisterTaskDefinition"}


def test_the_controller_does_not_stop_what_another_controller_marked(install):
    here = install()
    theirs = here.parts(here.role("controller", ControllerId="other"), controller_id="other")
    here.parts(here.writer).registry().open("s1", TOM)
    here.rest(theirs.reconciler())
    (task,) = here.live()
    with pytest.raises(AccessDenied):
        here.parts(here.controller).tasks.stop(task, "by mistake")
    with pytest.raises(AccessDenied):
        here.parts(here.controller).tasks.mark(task, TOM)
    assert here.live() == [task]


def test_lease_and_notes(install):
    here = install()
    clients: Clients = here.controller.clients(here.behind)
    parts = here.parts(here.controller)
    lease = LeaseTable(clients.dynamodb, parts.names)
    assert lease.read_lease() is None
    lease.write_lease(Lease("me", 1, 1, 15_000), None)
    parts.tables.note_first_seen("sessions#bad", 1)
    parts.tables.forget_first_seen("sessions#bad")
    with pytest.raises(AccessDenied):
        parts.tables.set_pause("me", "a try", 2)
    with pytest.raises(AccessDenied):
        parts.tables.clear_pause()


def test_the_world_is_kept_by_the_controller_and_accepted_by_people(install):
    here = install()
    first = here.parts(here.controller).check_world(keep=True)
    assert here.parts(here.operator).check_world(keep=False) == first
    assert here.controller.refused == here.operator.refused == []
    other = install(cluster="webordinary", controller_id="default")
    assert other.parts(other.role("operator", "operator-writes")).accept_world() == ()
    with pytest.raises(AccessDenied):
        other.parts(other.operator).tables.clear_pause()


def test_without_original_writers_the_index_is_asked(install):
    here = install(original_writers=False)
    here.parts(here.writer).registry().open("s1", TOM)
    reconciler = here.parts(here.controller).reconciler()
    here.rest(reconciler)
    here.clock.step(minutes=21)
    here.rest(reconciler)
    assert here.live() == []
    assert "dynamodb:Query" in here.controller.actions
    assert here.controller.refused == []


def test_plan_needs_no_right_to_write(install):
    here = install()
    here.parts(here.writer).registry().open("s1", TOM)
    parts = here.parts(here.operator)
    assert [action.container_id for action in parts.planner().twice().plan.actions] == [TOM.container_id]
    assert parts.preflight(to_start=False) == ()
    assert here.operator.refused == []
    with pytest.raises(AccessDenied):
        parts.tables.open(_session("s2"), EVA, 1)


def _session(session_id: str) -> Session:
    return Session(session_id, EVA.container_id, EVA, "", "", 1, 1)


def test_an_operator_pauses_and_adopts(install):
    here = install()
    role = here.role("operator", "operator-writes")
    parts = here.parts(role)
    parts.tables.set_pause("ops", "a try", here.clock() + 60_000)
    assert parts.tables.clear_pause()
    task = here.original_task(TOM)
    parts.tasks.mark(task, TOM)
    with pytest.raises(AccessDenied):
        parts.tasks.stop(task, "by hand")
    assert role.actions >= {"dynamodb:UpdateItem", "dynamodb:DeleteItem", "ecs:TagResource"}


def test_a_session_writer_reaches_nothing_of_the_controllers(install):
    here = install()
    parts = here.parts(here.writer)
    parts.registry().open("s1", TOM)
    table = parts.names.containers
    client: Any = here.writer.clients(here.behind).dynamodb
    with pytest.raises(Exception, match="UpdateItem"):
        client.update_item(
            TableName=table,
            Key={"containerId": {"S": TOM.container_id}},
            UpdateExpression="SET #n0.#n1 = :v0",
            ExpressionAttributeNames={"#n0": "launch", "#n1": "request"},
            ExpressionAttributeValues={":v0": {"S": '{"overrides": "mine"}'}},
        )
    with pytest.raises(AccessDenied):
        parts.table_reader().look([TOM.container_id])
    with pytest.raises(AccessDenied):
        parts.tasks.run('{"cluster": "webordinary", "taskDefinition": "webordinary-edit"}')


def test_a_stop_that_is_repeated_after_the_tags_are_gone_is_no_error(install):
    here = install()
    task = here.original_task(TOM)
    tasks = here.parts(here.controller).tasks
    tasks.stop(task, "once")
    tasks.stop(task, "twice")
    assert [request.action for request in here.controller.refused] == ["ecs:StopTask"]


def test_a_missing_cluster_names_those_that_there_are(install):
    here = install()
    parts = here.parts(here.operator)
    assert parts.task_reader().preflight().endswith("cluster/webordinary")
    with pytest.raises(ClusterNotFound, match="webordinary"):
        here.parts(here.role("operator", Cluster="nowhere"), cluster="nowhere").task_reader().preflight()
