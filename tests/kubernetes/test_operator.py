"""The operator against a real API server: what is declared, what is shown, and what an outage costs.

Everything it asks for is asked with the token of the shipped ServiceAccount, under the shipped Role.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf
import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, RunPolicy
from controller.kubernetes import resource
from controller.kubernetes.api import Api
from controller.kubernetes.objects import Objects
from controller.kubernetes.operator import KubernetesHost, Watch
from controller.kubernetes.publisher import Publisher
from controller.reconcile.reconciler import Round
from tests.builders import identity
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.objects import MANIFESTS, path
from tests.simulation import Simulation

TOM = identity("acme-blog-tom")


def body(name: str = "tom", owner: ContainerIdentity = TOM, **spec: Any) -> dict[str, Any]:
    ids = {"clientId": owner.client_id, "projectId": owner.project_id, "userId": owner.user_id}
    return {
        "apiVersion": resource.API_VERSION,
        "kind": resource.KIND,
        "metadata": {"name": name},
        "spec": {**ids, **spec},
    }


class Operator:
    """The operator's parts, its watch replaced by a list before each round, on the simulation's clock."""

    def __init__(self, control_plane: ControlPlane, namespace: str, simulation: Simulation, **options: Any) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.simulation = simulation
        self.objects = Objects()
        self.api = Api(lambda: self.login(), namespace, simulation.clock)
        self.publisher = Publisher(self.api, self.objects, simulation.clock, lambda _: None, **options)
        self.host = KubernetesHost(self.objects, simulation.tables, self.publisher, simulation.clock)

    def login(self) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=self.control_plane.url,
            ca_data=self.control_plane.certificate,
            token=self.control_plane.account.token,
        )

    def round(self, *, listing: bool = True) -> Round:
        if listing:
            self.publisher.relist()
        self.publisher.turn()
        self.host.before(None)
        done = self.simulation.round()
        self.host.after(done)
        self.publisher.turn()
        return done

    def settle(self, rounds: int = 8, seconds: float = 2) -> None:
        for _ in range(rounds):
            self.round()
            self.simulation.clock.step(seconds=seconds)

    def apply(self, *bodies: dict[str, Any]) -> None:
        self.control_plane.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=list(bodies))

    def get(self, name: str = "tom") -> dict[str, Any]:
        answer = self.control_plane.request("GET", path(self.namespace, name))
        assert answer.status == 200, answer.message
        found: dict[str, Any] = answer.body
        return found

    def names(self) -> set[str]:
        return {o["metadata"]["name"] for o in self.control_plane.request("GET", path(self.namespace)).body["items"]}

    def delete(self, name: str) -> None:
        assert self.control_plane.request("DELETE", path(self.namespace, name)).status == 200

    def merge(self, name: str, patch: dict[str, Any]) -> None:
        answer = self.control_plane.merge(path(self.namespace, name), patch)
        assert answer.status == 200, answer.message


def condition(shown: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in shown["status"]["conditions"] if c["type"] == kind)


@pytest.fixture
def operator(control_plane: ControlPlane, crd: str, namespace: str, kubectl: Callable[..., Any]) -> Operator:
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))
    return Operator(control_plane, namespace, Simulation())


def test_what_is_applied_starts_and_is_shown_with_its_address_in_two_patches(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    shown = operator.get()
    assert shown["status"]["phase"] == "Running"
    [task] = operator.simulation.live()
    assert shown["status"]["taskArn"] == task["taskArn"]
    assert shown["status"]["containerIp"]
    assert (condition(shown, "Ready")["status"], condition(shown, "Ready")["observedGeneration"]) == ("True", 1)
    assert shown["metadata"].get("finalizers") is None
    # Pending, starting, running: what is between two rounds is not written.
    assert operator.publisher.patches <= 3


def test_at_rest_nothing_is_written(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    patches, version = operator.publisher.patches, operator.get()["metadata"]["resourceVersion"]
    writes = operator.simulation.writes()
    operator.settle(10, seconds=30)
    assert operator.publisher.patches == patches
    assert operator.get()["metadata"]["resourceVersion"] == version
    assert operator.simulation.writes() == writes


def test_a_message_a_second_for_a_minute_costs_two_patches(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    patches = operator.publisher.patches
    for _ in range(60):
        operator.simulation.registry.touch("s1")
        operator.round(listing=False)
        operator.simulation.clock.step(seconds=1)
    assert operator.publisher.patches - patches <= 2


def test_what_sessions_ask_for_is_mirrored_and_goes_with_it(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    name = TOM.kubernetes_name
    shown = operator.get(name)
    assert shown["metadata"]["labels"] == {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}
    assert (shown["status"]["sessionCount"], shown["status"]["activeSessions"]) == (1, 1)
    assert shown["status"]["nextAction"]["what"] == "drain"
    operator.simulation.registry.open("s2", TOM)
    operator.settle(2)
    assert operator.get(name)["status"]["sessionCount"] == 2
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.declared is None
    for session in ("s1", "s2"):
        operator.simulation.registry.release(session)
    operator.settle(3)
    operator.simulation.clock.step(minutes=22)
    operator.settle(12)
    assert operator.simulation.live() == []
    assert operator.names() == set()


def test_a_mirror_that_is_deleted_comes_back_and_one_that_is_edited_is_put_right(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    name = TOM.kubernetes_name
    operator.delete(name)
    operator.settle(2)
    assert operator.get(name)["status"]["phase"] == "Running"
    operator.merge(name, {"spec": {"runPolicy": "Stopped", "idleTimeout": "90s"}})
    operator.settle(2)
    spec = operator.get(name)["spec"]
    assert (spec["runPolicy"], spec.get("idleTimeout")) == ("Auto", None)
    assert len(operator.simulation.live()) == 1


def test_a_mirror_without_its_label_is_a_declaration(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    name = TOM.kubernetes_name
    operator.merge(name, {"metadata": {"labels": {resource.ORIGIN_LABEL: None}}, "spec": {"runPolicy": "Always"}})
    operator.settle(2)
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.declared is not None
    assert record.declared.run_policy is RunPolicy.ALWAYS
    assert operator.names() == {name}


def test_without_mirrors_only_what_is_declared_is_shown(control_plane: ControlPlane, operator: Operator) -> None:
    plain = Operator(control_plane, operator.namespace, operator.simulation, mirrors=False)
    operator.simulation.registry.open("s1", TOM)
    plain.settle()
    assert len(operator.simulation.live()) == 1
    assert plain.names() == set()


def test_stopped_hold_and_idle_timeout_are_followed(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.apply(body(runPolicy="Stopped"))
    operator.settle()
    assert operator.simulation.live() == []
    operator.apply(body(runPolicy="Auto", idleTimeout="2m"))
    operator.simulation.registry.touch("s1")
    operator.settle()
    assert len(operator.simulation.live()) == 1
    until = resource.stamp(operator.simulation.clock() + 60 * MINUTE)
    operator.apply(body(idleTimeout="2m", hold={"reason": "a demo", "until": until}))
    operator.simulation.clock.step(minutes=10)
    operator.settle()
    assert len(operator.simulation.live()) == 1
    operator.apply(body(idleTimeout="2m"))
    operator.merge("tom", {"spec": {"hold": None}})
    operator.settle(12)
    assert operator.simulation.live() == []


def test_a_launch_has_the_size_that_is_declared(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always", cpu=2048, memory=4096))
    operator.settle()
    [task] = operator.simulation.live()
    assert (task["cpu"], task["memory"]) == ("2048", "4096")


def test_what_is_deleted_is_drained_when_nobody_else_wants_it(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always", idleTimeout="1m"))
    operator.settle()
    assert len(operator.simulation.live()) == 1
    operator.delete("tom")
    operator.settle(2)
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.declared is None
    operator.simulation.clock.step(minutes=22)
    operator.settle(12)
    assert operator.simulation.live() == []
    after = operator.simulation.tables.get_record(TOM.container_id)
    assert after is not None
    assert (after.status, after.drain is not None) == ("terminated", True)


def test_of_two_declarations_the_older_one_counts_and_both_say_so(operator: Operator) -> None:
    operator.apply(body("first", runPolicy="Always"))
    operator.settle(4)
    # The API server keeps whole seconds: of the same one, the name decides, and `first` is first.
    operator.apply(body("second", runPolicy="Stopped"))
    operator.settle(4)
    assert len(operator.simulation.live()) == 1
    ready = condition(operator.get("second"), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Superseded")
    assert "first" in ready["message"]
    assert condition(operator.get("first"), "Ready")["status"] == "True"
    operator.delete("first")
    operator.settle()
    assert operator.simulation.live() == []
    assert operator.get("second")["status"]["phase"] == "Stopped"


def test_an_outage_of_the_api_server_stops_status_and_nothing_else(operator: Operator) -> None:
    simulation, ann = operator.simulation, identity("acme-blog-ann")
    operator.apply(body(runPolicy="Always"))
    simulation.registry.open("s1", ann)
    operator.settle()
    assert len(simulation.live()) == 2
    shown = operator.get()["status"]
    operator.control_plane.stop()
    try:
        simulation.registry.release("s1")
        simulation.clock.step(minutes=22)
        bob = identity("acme-blog-bob")
        simulation.registry.open("s2", bob)
        for _ in range(24):
            simulation.registry.touch("s2")
            operator.round()
            simulation.clock.step(minutes=1)
        assert {t["startedBy"] for t in simulation.live()} == {"editctl/default"}
        running = {simulation.tables.get_record(i.container_id).status for i in (TOM, bob)}  # type: ignore[union-attr]
        assert running == {"running"}
        assert simulation.tables.get_record(ann.container_id).status == "terminated"  # type: ignore[union-attr]
    finally:
        operator.control_plane.start()
    operator.settle(3)
    assert operator.names() == {"tom", bob.kubernetes_name}
    assert operator.get(bob.kubernetes_name)["status"]["phase"] == "Running"
    assert operator.get()["status"]["taskArn"] == shown["taskArn"]


def test_a_new_operator_finds_all_as_it_is(control_plane: ControlPlane, operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    again = Operator(control_plane, operator.namespace, operator.simulation)
    writes = operator.simulation.writes()
    again.settle(3)
    assert (again.publisher.patches, operator.simulation.writes() - writes) == (0, 0)
    # And one that was deleted while nobody looked is taken back.
    operator.delete("tom")
    later = Operator(control_plane, operator.namespace, operator.simulation)
    later.settle(3)
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.declared is None


def test_a_plan_beside_it_is_the_same(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"), body("ann", identity("acme-blog-ann"), runPolicy="Stopped"))
    operator.simulation.registry.open("s1", identity("acme-blog-bob"))
    operator.settle()
    done = operator.round()
    beside = operator.simulation.new_controller().planner.view()
    assert repr(beside.plan.actions) == repr(done.plan.actions)
    assert {a.container_id for a in beside.plan.actions} == {TOM.container_id, "acme-blog-ann", "acme-blog-bob"}


def test_an_object_that_goes_while_it_is_written_is_no_error(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.publisher.turn()
    operator.host.before(None)
    operator.host.after(operator.simulation.round())
    operator.delete("tom")
    assert operator.publisher.turn() > 0
    operator.settle(2)
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.declared is None


def test_what_is_done_is_told_as_an_event_with_our_reason(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    found = operator.control_plane.request("GET", f"/api/v1/namespaces/{operator.namespace}/events").body["items"]
    assert [(e["reason"], e["involvedObject"]["name"]) for e in found] == [("Declared", "tom")]
    assert found[0]["message"].startswith("start: task")


def test_kopf_names_what_is_due_and_comes_back_when_the_server_was_away(operator: Operator) -> None:
    due = operator.simulation.controller.due
    watch = Watch(operator.objects, operator.publisher, due, lambda **_: operator.login(), operator.namespace)
    watch.start()
    try:
        operator.apply(body())
        taken = _taken(due)
        assert TOM.container_id in taken
        operator.control_plane.restart()
        ann = identity("acme-blog-ann")
        operator.apply(body("ann", ann))
        assert ann.container_id in _taken(due)
        # A status is no news: it would call for a look, which writes a status.
        operator.control_plane.merge(path(operator.namespace, "ann") + "/status", {"status": {"phase": "Held"}})
        operator.merge("tom", {"spec": {"idleTimeout": "5m"}})
        assert _taken(due) == {TOM.container_id}
    finally:
        watch.close()


def _taken(due: Any) -> set[str]:
    """Wait for hints; a watch that was broken is taken up again within a few seconds."""
    from tests.agent.world import until

    found: set[str] = set()

    def come() -> bool:
        found.update(due.take(0))
        return bool(found)

    until(come, 60, "the watch names a container")
    return found
