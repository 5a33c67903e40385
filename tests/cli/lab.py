"""editctl as a person runs it: on a simulated account in memory (`Lab`), or through boto3 on the local endpoint."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controller.assembly import Assembly
from controller.aws.client import Clients
from controller.aws.inspection import Inspector
from controller.aws.rows import RECORDS, SESSIONS, to_item
from controller.aws.tables import TableNames
from controller.aws.tasks import Tasks
from controller.cli.app import App
from controller.cli.main import cli
from controller.cli.screen import Screen
from controller.core.identity import ContainerIdentity, environment_for, tags_for
from controller.core.policy import Policy
from controller.core.whereabouts import Whereabouts, check
from controller.errors import EditctlError
from controller.local.server import LocalEndpoint
from controller.reconcile.apply import Applier
from controller.reconcile.leadership import Leadership
from controller.reconcile.observe import Observer
from controller.reconcile.reconciler import Planner, Reconciler
from controller.sessions import SessionRegistry
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables
from tests.simulation import CLUSTER, DEFINITION, SETTINGS, GuardedEcs, Simulation


def run(app: App, *args: str, env: Mapping[str, str] | None = None) -> Result:
    """Run editctl with these arguments, in this process."""
    return CliRunner().invoke(cli, list(args), obj=app, env=dict(env or {}))


class QuickApp(App):
    """An App on a clock of the test's: whoever waits moves it."""

    def __init__(self, clock: FakeClock, make: Callable[[App], Any], screen: Screen | None = None) -> None:
        super().__init__()
        self._clock = clock
        self._make = make
        self._screen = screen

    @cached_property
    def assembly(self) -> Any:
        return self._make(self)

    @cached_property
    def screen(self) -> Screen:
        return self._screen or Screen(width=None)

    def clock(self) -> int:
        return self._clock()

    def wait(self, seconds: float) -> None:
        self._clock.step(seconds=max(seconds, 0.001))


# In memory


class SimulatedAssembly:
    """The parts of an installation on a Simulation, as `controller/assembly.py` would hand them out."""

    local = True

    def __init__(self, lab: Lab, app: App) -> None:
        self.lab = lab
        self.simulation = lab.simulation
        self.config = app.loaded.config
        self.problems: tuple[EditctlError, ...] = ()
        self._wait = app.wait

    @property
    def policy(self) -> Policy:
        return self.simulation.policy

    @property
    def tables(self) -> FakeTables:
        return self.simulation.tables

    def table_reader(self) -> FakeTables:
        return self.simulation.tables

    @property
    def tasks(self) -> Tasks:
        return Tasks(GuardedEcs(self.simulation), SETTINGS, self.simulation.clock)

    def inspector(self) -> Inspector:
        return Inspector(GuardedEcs(self.simulation), SETTINGS, self.simulation.clock)

    def planner(self) -> Planner:
        observer = Observer(
            self.tables,
            self.tasks,
            self.simulation.clock,
            cluster=CLUSTER,
            newest_definition=self.inspector().newest_definition,
        )
        return Planner(observer, self.policy, self.simulation.clock)

    def reconciler(self) -> Reconciler:
        applier = Applier(self.tables, self.tasks, self.policy, self.simulation.clock, workers=1)
        return Reconciler(self.planner(), applier, self.tables)

    def registry(self) -> SessionRegistry:
        return SessionRegistry(self.simulation.tables, self.policy, self.simulation.clock, self._wait)

    def leadership(self, holder: str, clock: Callable[[], int]) -> Leadership:
        return Leadership(self.simulation.tables, holder, self.simulation.clock)

    def preflight(self, *, to_start: bool) -> tuple[EditctlError, ...]:
        return self.problems

    def check_world(self, *, keep: bool) -> Whereabouts:
        here = Whereabouts(f"arn of {self.config.cluster}", self.simulation.tables.preflight())
        check(self.lab.first, here)
        self.lab.first = self.lab.first or (here if keep else None)
        return here


class Lab:
    """A simulated account and the commands on it."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.problems: tuple[EditctlError, ...] = ()
        self.first: Whereabouts | None = None

    @property
    def clock(self) -> FakeClock:
        return self.simulation.clock

    @property
    def tables(self) -> FakeTables:
        return self.simulation.tables

    def editctl(self, *args: str, screen: Screen | None = None) -> Result:
        """Run one command."""
        return run(self.app(screen), *args)

    def app(self, screen: Screen | None = None) -> App:
        """Return what one call of editctl stands on."""
        return QuickApp(self.clock, self._assembly, screen)

    def _assembly(self, app: App) -> SimulatedAssembly:
        assembly = SimulatedAssembly(self, app)
        assembly.problems = self.problems
        return assembly

    def open(self, session_id: str, client: str, project: str, user: str) -> ContainerIdentity:
        """Open a session as a service would."""
        identity = ContainerIdentity(client, project, user)
        self.simulation.registry.open(session_id, identity)
        return identity

    def running(self, session_id: str, client: str, project: str, user: str) -> ContainerIdentity:
        """Open a session and let its container come up."""
        identity = self.open(session_id, client, project, user)
        self.simulation.settle()
        return identity


# Through boto3

_NUMBERS = itertools.count(1)


class Account:
    """Tables and a cluster of one test's own on the shared endpoint."""

    def __init__(self, endpoint: LocalEndpoint, clients: Clients, clock: FakeClock) -> None:
        number = next(_NUMBERS)
        self.endpoint = endpoint
        self.clients = clients
        self.clock = clock
        self.cluster = f"cluster-{number}"
        self.names = TableNames(f"t{number}-sessions", f"t{number}-containers", f"t{number}-controller")
        self.family = f"edit{number}"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which a person would run editctl here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint.url,
            "EDITCTL_METRICS_ADDRESS": "off",
            "EDITCTL_CLUSTER": self.cluster,
            "EDITCTL_SESSIONS_TABLE": self.names.sessions,
            "EDITCTL_CONTAINERS_TABLE": self.names.containers,
            "EDITCTL_CONTROLLER_TABLE": self.names.controller,
            "EDITCTL_TASK_DEFINITION": self.family,
        }

    def editctl(self, *args: str, screen: Screen | None = None, **env: str) -> Result:
        """Run one command with the clients that all tests share."""
        return run(QuickApp(self.clock, self._assembly, screen), *args, env={**self.env, **env})

    def assembly(self) -> Assembly:
        """Return the parts with the settings of `env`."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            return self._assembly(App())

    def _assembly(self, app: App) -> Assembly:
        config = app.loaded.config
        return Assembly(config, clock=app.clock, wait=app.wait, clients=self.clients, local=True)

    # What others have done

    def launch(self, identity: ContainerIdentity, *, generation: int = 1, controller: str = "default") -> str:
        """Run a task as a controller would; return its ARN."""
        variables = environment_for(identity, generation, controller, 20)
        environment = [{"name": n, "value": v} for n, v in variables.items()]
        request = {
            "cluster": self.cluster,
            "taskDefinition": self.family,
            "startedBy": f"editctl/{controller}",
            "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
            "tags": [{"key": k, "value": v} for k, v in tags_for(identity, controller).items()],
            "overrides": {"containerOverrides": [{"name": "edit-container", "environment": environment}]},
        }
        return str(self.endpoint.ecs.call("RunTask", request)["tasks"][0]["taskArn"])

    def put_session(self, session_id: str, identity: ContainerIdentity, *, age: int, original: bool = False) -> None:
        """Put a session row, last active so many milliseconds ago."""
        row: dict[str, Any] = {
            "sessionId": session_id,
            "containerId": identity.container_id,
            "lastActivity": self.clock() - age,
            **({} if original else _triple(identity)),
        }
        self.put(self.names.sessions, row)

    def put_record(self, identity: ContainerIdentity, status: str, **attributes: Any) -> None:
        """Put a record of generation 1."""
        row = {"containerId": identity.container_id, **_triple(identity), "containerStatus": status, "generation": 1}
        self.put(self.names.containers, {**row, **attributes})

    def put(self, table: str, row: Mapping[str, Any]) -> None:
        """Put a row of plain values."""
        self.clients.dynamodb.put_item(TableName=table, Item=to_item(row))

    def address(self, arn: str) -> str:
        """Return a running task's address."""
        found = self.endpoint.ecs.call("DescribeTasks", {"cluster": self.cluster, "tasks": [arn]})["tasks"][0]
        details = {d["name"]: d["value"] for d in found["attachments"][0]["details"]}
        return str(details["privateIPv4Address"])

    def there(self) -> None:
        """Make tables, cluster and definition, without a command."""
        from controller.aws.schema import create_tables

        create_tables(self.clients.dynamodb, self.names)
        self.endpoint.ecs.call("CreateCluster", {"clusterName": self.cluster})
        self.endpoint.ecs.call("RegisterTaskDefinition", {**DEFINITION, "family": self.family})


def _triple(identity: ContainerIdentity) -> dict[str, str]:
    return {"clientId": identity.client_id, "projectId": identity.project_id, "userId": identity.user_id}


__all__ = ["RECORDS", "SESSIONS", "Account", "Lab", "QuickApp", "run"]
