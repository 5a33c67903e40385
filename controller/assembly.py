"""Builds planner, reconciler and registry from the settings: the only place where everything meets.

Every host (the commands, the Kubernetes operator, a service that opens sessions) takes its parts from here. Nothing is
connected before it is asked for, and what only looks is built from objects that cannot write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from controller.core.model import MINUTE, SECOND, Millis
from controller.core.policy import Policy
from controller.errors import CredentialsError, EditctlError, EndpointError, RowError
from controller.reconcile.apply import Applier
from controller.reconcile.due import Due
from controller.reconcile.keepalives import Keepalives
from controller.reconcile.leadership import Leadership
from controller.reconcile.limits import RUN_TASK, Limits, Quota
from controller.reconcile.listen import Listener
from controller.reconcile.loop import Hints, Host, Loop, Stop, in_utc
from controller.reconcile.observe import Observer
from controller.reconcile.reconciler import Planner, Reconciler
from controller.sessions import SessionRegistry

if TYPE_CHECKING:  # at run time boto3 is loaded when the first client is needed, not for `editctl --help`
    from controller.aws.client import Clients
    from controller.aws.inspection import Inspector
    from controller.aws.schema import TableNames
    from controller.aws.tables import TableReader, Tables
    from controller.aws.tasks import EcsSettings, TaskReader, Tasks
    from controller.aws.world import WorldTable
    from controller.channels import Channels
    from controller.config import Config
    from controller.core.identity import ContainerIdentity
    from controller.core.whereabouts import Whereabouts
    from controller.metrics import Health, Metrics

_LOCAL_REGION = "us-east-1"
_LOCAL_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
_REGION_VARIABLES = ("AWS_DEFAULT_REGION", "AWS_PROFILE")


def wall_clock() -> Millis:
    """Return this machine's time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """One thing that `tables create` looks after, and whether it was made just now."""

    what: str
    name: str
    made: bool


class Assembly:
    """The parts of one installation. Every method may be called from any thread.

    clients takes ready-made ones in place of those that the settings lead to. local says that AWS_ENDPOINT_URL names an
    endpoint on this machine, which takes any credentials and any region.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], Millis] = wall_clock,
        wait: Callable[[float], None] = time.sleep,
        clients: Clients | None = None,
        local: bool = False,
    ) -> None:
        self.config = config
        self.local = local
        self._clock = clock
        self._wait = wait
        self._clients = clients
        self._connecting = Lock()
        self.metrics: Metrics | None = None
        """Where calls and waits are counted, when a host has set it before its first call."""

    @property
    def clients(self) -> Clients:
        """The boto3 clients, made at the first use: making them is not safe for threads, using them is."""
        from controller.aws.client import ClientSettings, connect

        with self._connecting:
            if self._clients is None:
                self._clients = connect(ClientSettings(region=self._region()), self._clock, self._called)
            return self._clients

    def _region(self) -> str | None:
        """Return the region, None to leave it to boto3; fill in what a local endpoint does not care about."""
        # The other SDKs and AWS's own containers use AWS_REGION; boto3 alone does not look at it.
        region = os.environ.get("AWS_REGION") or None
        if not self.local:
            return region
        if not any(os.environ.get(name) for name in _CREDENTIAL_VARIABLES):
            os.environ.update(_LOCAL_CREDENTIALS)
        return region or (None if any(os.environ.get(name) for name in _REGION_VARIABLES) else _LOCAL_REGION)

    @property
    def policy(self) -> Policy:
        """What the planner may do and how long it waits."""
        return self.config.policy()

    @property
    def names(self) -> TableNames:
        """What the three tables are called."""
        from controller.aws.schema import TableNames

        config = self.config
        return TableNames(config.sessions_table, config.containers_table, config.controller_table)

    # What looks

    def table_reader(self) -> TableReader:
        """Return what reads the tables."""
        from controller.aws.tables import TableReader

        return TableReader(self.clients.dynamodb, self.names, self._clock, region=self.clients.region)

    def task_reader(self) -> TaskReader:
        """Return what reads ECS."""
        from controller.aws.tasks import TaskReader

        return TaskReader(self.clients.ecs, self._ecs_settings(), self._clock)

    def inspector(self) -> Inspector:
        """Return what looks at single tasks and their definitions."""
        from controller.aws.inspection import Inspector

        return Inspector(self.clients.ecs, self._ecs_settings(), self._clock)

    def planner(self) -> Planner:
        """Return what observes and decides. It holds nothing that can write."""
        ecs = self._ecs_settings()
        observer = Observer(
            self.table_reader(),
            self.task_reader(),
            self._clock,
            cluster=ecs.cluster_name,
            region=self.clients.region,
            clock_offset=self.clients.clock_offset,
            newest_definition=self.inspector().newest_definition,
        )
        # Who only looks need not hold a secret that can drain containers: then agents are not asked, which never
        # makes a container idle.
        agents = self.channels if self.config.secret() else None
        return Planner(observer, self.policy, self._clock, agents)

    # What writes

    @cached_property
    def tables(self) -> Tables:
        """What writes the tables: session writers and operators use it, too."""
        from controller.aws.tables import Tables

        clients = self.clients
        return Tables(
            clients.dynamodb,
            self.names,
            self._clock,
            region=clients.region,
            pause=self._wait,
            scan=self.config.original_writers,
        )

    @cached_property
    def tasks(self) -> Tasks:
        """What launches, stops and marks tasks."""
        from controller.aws.tasks import Tasks

        return Tasks(self.clients.ecs, self._ecs_settings(), self._clock)

    def reconciler(self) -> Reconciler:
        """Return what runs rounds."""
        from controller.aws.hints import Queues

        queues = Queues(self.clients.sqs, region=self.clients.region)
        channels, policy = self.channels, self.policy
        key_id = next(iter(self.config.channel_keys()), "")
        applier = Applier(self.tables, self.tasks, policy, self._clock, queues, self._limits(), channels, key_id)
        keepalives = Keepalives(channels, policy, self._clock) if channels else None
        return Reconciler(self.planner(), applier, self.tables, keepalives=keepalives)

    @cached_property
    def channels(self) -> Channels | None:
        """The channel to the agents; None without an agent port."""
        config = self.config
        if config.agent_port is None:
            return None
        from controller.agent.client import AgentClient
        from controller.channels import Channels

        return Channels(AgentClient(config.channel_keys(), config.agent_port), self._clock)

    def leadership(self, holder: str, clock: Callable[[], Millis]) -> Leadership:
        """Return this controller's side of the lease. clock is monotonic."""
        from controller.aws.lease import LeaseTable

        return Leadership(LeaseTable(self.clients.dynamodb, self.names, region=self.clients.region), holder, clock)

    def listener(self, due: Due, leadership: Leadership) -> AbstractContextManager[Listener | None]:
        """Return what takes hints from the queue while this controller leads; it gives None when there is no queue."""
        if self.config.hint_queue_url is None:
            return nullcontext()
        from controller.aws.hints import HintQueue

        queue = HintQueue(self.clients.sqs, self.config.hint_queue_url, region=self.clients.region)
        return Listener(queue, due, lambda: leadership.leads, self._clock)

    def loop(
        self,
        reconciler: Reconciler,
        leadership: Leadership,
        stop: Stop,
        *,
        health: Health | None = None,
        hints: Hints | None = None,
        host: Host | None = None,
        say_time: Callable[[Millis, Millis], str] = in_utc,
    ) -> Loop:
        """Return what runs rounds until it is asked to stop."""
        return Loop(
            reconciler,
            leadership,
            stop,
            self._clock,
            self.config.poll,
            check=lambda: self.check_world(keep=True),
            resync=self.config.resync,
            metrics=self.metrics,
            health=health,
            hints=hints,
            host=host,
            say_time=say_time,
        )

    def registry(self) -> SessionRegistry:
        """Return what a service that opens sessions calls."""
        return SessionRegistry(self.tables, self.policy, self._clock, self._wait)

    def _limits(self) -> Limits:
        budget = self.config.start_budget
        return Limits(self._clock, RUN_TASK if budget is None else _spread(budget), on_wait=self._waited)

    def _called(self, api: str, code: str) -> None:
        if self.metrics:
            self.metrics.aws_call(api, code)

    def _waited(self, bucket: str, wait: Millis) -> None:
        if self.metrics:
            self.metrics.quota_wait(bucket, wait)

    def _ecs_settings(self) -> EcsSettings:
        from controller.aws.tasks import EcsSettings

        config = self.config
        return EcsSettings(
            cluster=config.cluster,
            controller_id=config.controller_id,
            task_definition=config.task_definition,
            container_name=config.container_name,
            family_per_project=config.family_per_project,
            subnets=config.subnets,
            security_groups=config.security_groups,
            assign_public_ip=config.assign_public_ip,
            launch_type=config.launch_type,
            idle_minutes=max(config.idle_timeout // MINUTE, 1),
            region=self.clients.region,
            environment=self._agent_environment,
        )

    def _agent_environment(self, identity: ContainerIdentity, generation: int) -> Mapping[str, str]:
        """Return what a launch tells its agent; of the channel's secret only a digest that opens nothing."""
        config = self.config
        secret = next(iter(config.channel_keys().values()), None)
        if config.agent_port is None or secret is None:
            return {}
        from controller.agent.protocol import channel_environment

        return channel_environment(secret, identity, generation, config.agent_port)

    # Whether it can work

    def preflight(self, *, to_start: bool) -> tuple[EditctlError, ...]:
        """Return everything that is missing or refused: tables and cluster, and with to_start what starts need."""
        checks: list[Callable[[], object]] = [
            self.table_reader().preflight,
            self.tasks.preflight if to_start else self.task_reader().preflight,
        ]
        found: list[EditctlError] = []
        for check in checks:
            try:
                check()
            except EditctlError as error:
                found.append(error)
                if isinstance(error, (CredentialsError, EndpointError)) or (self.local and len(found) == 1):
                    # The others would only say the same in other words; here one command makes all that is missing.
                    return (error,)
        return tuple(found)

    # Whether it is the world that was seen first

    def whereabouts(self) -> Whereabouts:
        """Return the ids of the cluster and the tables that the settings lead to. Raises what keeps them unseen."""
        from controller.core.whereabouts import Whereabouts

        tables = self.table_reader().preflight()
        return Whereabouts(self.task_reader().preflight(), tables)

    def check_world(self, *, keep: bool) -> Whereabouts:
        """Return the ids of what is here. Raises WrongWorld when they are not those that were seen first.

        With keep this is the first run, if there was none, and they are kept. What only looks keeps nothing.
        """
        from controller.aws.world import WorldReader
        from controller.core.whereabouts import check

        here = self.whereabouts()
        reader = (
            self._world_table() if keep else WorldReader(self.clients.dynamodb, self.names, region=self.clients.region)
        )
        first = reader.read_world()
        if first is None and keep and not self._world_table().keep_world(here):
            first = reader.read_world()
        check(first, here)
        return here

    def accept_world(self) -> tuple[str, ...]:
        """Keep what is here as the world, and return what was not so before; nothing is written when all was."""
        from controller.core.whereabouts import differences

        table, here = self._world_table(), self.whereabouts()
        try:
            first = table.read_world()
        except RowError as error:
            found: tuple[str, ...] = (error.what,)
        else:
            if first == here:
                return ()
            found = differences(first, here) if first else ("nothing was kept yet",)
        table.accept_world(here)
        return found

    def _world_table(self) -> WorldTable:
        from controller.aws.world import WorldTable

        return WorldTable(self.clients.dynamodb, self.names, region=self.clients.region)

    # Setting up

    def stack_outputs(self, name: str) -> Mapping[str, str]:
        """Return what a CloudFormation stack prints, by key."""
        from controller.aws.client import ClientSettings
        from controller.aws.stack import connect_stacks, read_outputs

        return read_outputs(connect_stacks(ClientSettings(region=self._region())), name)

    def create_tables(self) -> tuple[Made, ...]:
        """Make what is missing: the tables, and on this machine's endpoint the cluster and the task definition, too."""
        from controller.aws.schema import create_tables

        clients = self.clients
        made = create_tables(clients.dynamodb, self.names, clients.region, self._wait)
        tables = tuple(Made("table", name, new) for name, new in made.items())
        return (*tables, *self._create_local()) if self.local else tables

    def _create_local(self) -> tuple[Made, ...]:
        ecs = self._ecs_settings()
        client = cast("Any", self.clients.ecs)
        return (
            Made("cluster", ecs.cluster_name, self._create_cluster(client, ecs)),
            Made("task definition", ecs.family, self._register_definition(client, ecs)),
        )

    def _create_cluster(self, client: Any, ecs: EcsSettings) -> bool:
        from controller.aws.client import translating

        with translating("DescribeClusters", cluster=ecs.cluster_name, region=ecs.region):
            found = client.describe_clusters(clusters=[ecs.cluster])["clusters"]
        if any(c.get("status") == "ACTIVE" for c in found):
            return False
        with translating("CreateCluster", cluster=ecs.cluster_name, region=ecs.region):
            client.create_cluster(clusterName=ecs.cluster_name)
        return True

    def _register_definition(self, client: Any, ecs: EcsSettings) -> bool:
        from controller.aws.client import translating

        with translating("ListTaskDefinitions", definition=ecs.family, region=ecs.region):
            found = client.list_task_definitions(familyPrefix=ecs.family, status="ACTIVE", maxResults=1)
        if found["taskDefinitionArns"]:
            return False
        with translating("RegisterTaskDefinition", definition=ecs.family, region=ecs.region):
            client.register_task_definition(**_local_definition(ecs.family, ecs.container_name))
        return True


def _spread(budget: int) -> Quota:
    """Return a bucket from which five minutes never give more than the budget: half at once, half as it refills."""
    burst = max(budget / 2, 1.0)
    return Quota(min(burst, RUN_TASK.burst), max(budget - burst, 1.0) * SECOND / (5 * MINUTE))


def _local_definition(family: str, container_name: str) -> dict[str, Any]:
    return {
        "family": family,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": container_name, "image": "edit-container:local", "essential": True}],
    }
