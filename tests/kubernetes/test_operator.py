"""The operator against a real API server: what is declared, what is shown, and what an outage costs.

Everything it asks for is asked with the token of the shipped ServiceAccount, under the shipped Role. What it asked is
told by the API server's own account of it, and not counted by the operator.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

from controller.cli.documents import plan_document, text
from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, SECOND, Declaration, Hold, RunPolicy
from controller.kubernetes import resource
from controller.kubernetes.api import Api
from controller.kubernetes.objects import Objects
from controller.kubernetes.operator import KubernetesHost, Watch, unready
from controller.kubernetes.publisher import Publisher, Show
from controller.reconcile.due import Due
from controller.reconcile.reconciler import Round
from tests.agent.world import until
from tests.builders import identity
from tests.kubernetes.cluster import Asked, ControlPlane
from tests.kubernetes.objects import MANIFESTS, path
from tests.simulation import Simulation

TOM, ANN, BOB = identity("acme-blog-tom"), identity("acme-blog-ann"), identity("acme-blog-bob")


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
        self.token = control_plane.account.token
        self.looks: list[str] = []
        self.objects = Objects()
        self.api = Api(lambda: self.login(), namespace, simulation.clock)
        self.publisher = Publisher(self.api, self.objects, simulation.clock, self.looks.append, **options)
        self.host = KubernetesHost(self.objects, simulation.tables, self.publisher, self.looks.append)
        self._counted = 0

    def login(self) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=self.control_plane.url, ca_data=self.control_plane.certificate, token=self.token
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

    def phase(self, name: str = "tom") -> str | None:
        phase: str | None = self.get(name).get("status", {}).get("phase")
        return phase

    def names(self) -> set[str]:
        return {o["metadata"]["name"] for o in self.control_plane.request("GET", path(self.namespace)).body["items"]}

    def delete(self, name: str) -> None:
        assert self.control_plane.request("DELETE", path(self.namespace, name)).status == 200

    def merge(self, name: str, patch: dict[str, Any]) -> None:
        answer = self.control_plane.merge(path(self.namespace, name), patch)
        assert answer.status == 200, answer.message

    def declared(self, owner: ContainerIdentity = TOM) -> Declaration | None:
        record = self.simulation.tables.get_record(owner.container_id)
        return record.declared if record else None

    def asked(self) -> list[Asked]:
        """Return what the operator has asked since the last time, lists aside."""
        found = self.control_plane.asked(self.namespace)
        new, self._counted = found[self._counted :], len(found)
        return [each for each in new if each.at == "ResponseComplete" and each.verb not in ("list", "watch")]

    def patches(self) -> int:
        """Return how many patches the operator has asked for since the last time."""
        return sum(each.verb == "patch" for each in self.asked())


def condition(shown: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in shown["status"]["conditions"] if c["type"] == kind)


@pytest.fixture
def made(control_plane: ControlPlane, crd: str, namespace: str, kubectl: Callable[..., Any]) -> Iterator[Any]:
    """Return what makes operators, which may do what the shipped Role lets them; it lets them do all they want."""
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))

    def make(simulation: Simulation | None = None, **options: Any) -> Operator:
        return Operator(control_plane, namespace, simulation or Simulation(), **options)

    servers = control_plane.pids()
    yield make
    # A server that has just started knows no roles yet.
    if control_plane.pids() == servers:
        assert [each for each in control_plane.asked(namespace) if each.status == 403] == []


@pytest.fixture
def operator(made: Callable[..., Operator]) -> Operator:
    return made()


# What is declared is followed, and shown


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
    asked = [(each.verb, each.subresource) for each in operator.asked() if each.resource == "editcontainers"]
    assert set(asked) == {("patch", "status")}
    assert len(asked) <= 2


def test_whoever_applied_it_sees_at_the_next_look_that_it_starts(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.round()
    # What the first round decided is over when it is done: another look is due at once, and that is what is shown.
    assert operator.get().get("status") is None
    assert TOM.container_id in operator.looks
    operator.round()
    shown = operator.get()["status"]
    assert (shown["phase"], shown["taskArn"]) == ("Starting", operator.simulation.live()[0]["taskArn"])


def test_a_stop_costs_two_patches(made: Callable[..., Operator]) -> None:
    operator = made(Simulation(agents=True))
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    assert operator.phase() == "Running"
    operator.patches()
    operator.apply(body(runPolicy="Stopped"))
    operator.settle(12)
    assert (operator.phase(), operator.simulation.live()) == ("Stopped", [])
    assert operator.patches() <= 2


def test_a_step_that_calls_for_a_person_is_shown_at_once(made: Callable[..., Operator]) -> None:
    operator = made(Simulation(agents=True))
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    [task] = operator.simulation.live()
    operator.simulation.agents.works(task["taskArn"])
    operator.simulation.agents.remote_down = True
    operator.apply(body(runPolicy="Stopped"))
    operator.settle(4)
    shown = operator.get()
    assert (shown["status"]["phase"], condition(shown, "WorkSaved")["status"]) == ("Draining", "False")
    assert len(operator.simulation.live()) == 1


def test_at_rest_nothing_is_asked_but_lists(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"), body("ann", ANN, runPolicy="Stopped"))
    operator.simulation.registry.open("s1", BOB)
    operator.settle()
    operator.asked()
    version, writes = operator.get()["metadata"]["resourceVersion"], operator.simulation.writes()
    operator.settle(10, seconds=30)
    assert operator.asked() == []
    assert operator.get()["metadata"]["resourceVersion"] == version
    assert operator.simulation.writes() == writes


def test_a_message_a_second_for_a_minute_costs_two_patches(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    before = operator.get(TOM.kubernetes_name)["status"]["lastActivity"]
    operator.asked()
    for _ in range(60):
        operator.simulation.registry.touch("s1")
        operator.round(listing=False)
        operator.simulation.clock.step(seconds=1)
    assert 1 <= operator.patches() <= 2
    assert operator.get(TOM.kubernetes_name)["status"]["lastActivity"] > before


def test_stopped_hold_and_idle_timeout_are_followed(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.apply(body(runPolicy="Stopped"))
    operator.settle()
    assert operator.simulation.live() == []
    operator.apply(body(runPolicy="Auto", idleTimeout="2m"))
    operator.simulation.registry.touch("s1")
    operator.settle()
    assert len(operator.simulation.live()) == 1
    until_ = resource.stamp(operator.simulation.clock() + 60 * MINUTE)
    operator.apply(body(idleTimeout="2m", hold={"reason": "a demo", "until": until_}))
    operator.simulation.clock.step(minutes=10)
    operator.settle()
    assert len(operator.simulation.live()) == 1
    shown = operator.get()
    assert shown["status"]["phase"] == "Held"
    assert "a demo" in condition(shown, "Ready")["message"]
    operator.apply(body(idleTimeout="2m"))
    operator.merge("tom", {"spec": {"hold": None}})
    operator.settle(12)
    assert operator.simulation.live() == []


def test_a_launch_has_the_size_that_is_declared(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always", cpu=2048, memory=4096))
    operator.settle()
    [task] = operator.simulation.live()
    assert (task["cpu"], task["memory"]) == ("2048", "4096")


def test_all_that_can_be_declared_is_written_once(operator: Operator) -> None:
    until_ = operator.simulation.clock() // SECOND * SECOND + 60 * MINUTE
    operator.apply(
        body(
            runPolicy="Always",
            idleTimeout="1h30m",
            cpu=1024,
            memory=2048,
            hold={"reason": "a demo", "until": resource.stamp(until_)},
        )
    )
    operator.settle(3)
    declared = operator.declared()
    assert declared is not None
    assert declared == Declaration(
        uid=operator.get()["metadata"]["uid"],
        generation=1,
        run_policy=RunPolicy.ALWAYS,
        idle_timeout=90 * MINUTE,
        cpu="1024",
        memory="2048",
        hold=Hold(by=f"EditContainer {operator.namespace}/tom", reason="a demo", until=until_),
    )
    assert operator.get()["status"]["observedGeneration"] == 1
    writes = operator.simulation.writes()
    operator.settle(3)
    assert operator.simulation.writes() == writes


def test_what_is_deleted_while_it_runs_is_saved_before_it_is_stopped(made: Callable[..., Operator]) -> None:
    operator = made(Simulation(agents=True))
    operator.apply(body(runPolicy="Always", idleTimeout="1m"))
    operator.settle()
    [task] = operator.simulation.live()
    agent = operator.simulation.agents.of(task["taskArn"])
    assert operator.simulation.agents.works(task["taskArn"])
    assert (agent.work, agent.pushed) == (1, 0)
    operator.delete("tom")
    operator.settle(2)
    assert operator.declared() is None
    operator.simulation.agents.saving_until = operator.simulation.clock() + 40 * MINUTE
    operator.simulation.clock.step(minutes=22)
    operator.settle(2)
    # Asked to save, and not stopped before that is done.
    assert agent.frozen
    assert len(operator.simulation.live()) == 1
    operator.simulation.agents.saving_until = 0
    operator.settle(12)
    assert operator.simulation.live() == []
    assert (agent.receipt_at, agent.pushed) == (1, 1)
    record = operator.simulation.tables.get_record(TOM.container_id)
    assert record is not None
    assert record.save is not None
    assert (record.status, record.save.state) == ("terminated", "saved")


def test_what_is_deleted_goes_on_for_the_sessions_that_want_it(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    operator.delete("tom")
    operator.settle(4)
    assert len(operator.simulation.live()) == 1
    # From now on it is shown as what sessions ask for.
    assert operator.names() == {TOM.kubernetes_name}
    assert operator.phase(TOM.kubernetes_name) == "Running"


def test_what_is_shown_is_of_the_generation_that_a_round_has_seen(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    # Edited while a round is under way: what comes of that round is not said of the edit.
    operator.host.before(None)
    done = operator.simulation.round()
    operator.merge("tom", {"spec": {"runPolicy": "Stopped"}})
    operator.publisher.relist()
    operator.publisher.turn()
    operator.host.after(done)
    operator.publisher.turn()
    shown = operator.get()
    assert (shown["metadata"]["generation"], shown["status"]["observedGeneration"]) == (2, 1)
    operator.settle(12)
    shown = operator.get()
    assert (shown["status"]["phase"], shown["status"]["observedGeneration"]) == ("Stopped", 2)


# Several for one, and such as cannot be read


def test_of_two_declarations_the_older_one_counts_and_both_say_so(operator: Operator) -> None:
    operator.apply(body("first", runPolicy="Always"))
    operator.settle(4)
    # The API server keeps whole seconds: of the same one, the name decides, and `first` is first.
    operator.apply(body("second", runPolicy="Stopped"))
    operator.settle(4)
    assert len(operator.simulation.live()) == 1
    second, first = operator.get("second"), operator.get("first")
    for kind, status in (("Ready", "False"), ("Duplicate", "True")):
        said = condition(second, kind)
        assert (said["status"], said["reason"]) == (status, "Superseded")
        assert "first declares the same container" in said["message"]
    assert second["status"]["phase"] == "Superseded"
    assert condition(first, "Ready")["status"] == "True"
    said = condition(first, "Duplicate")
    assert (said["status"], said["reason"]) == ("True", "Superseded")
    assert "second would declare it, too" in said["message"]
    operator.delete("first")
    operator.settle()
    assert operator.simulation.live() == []
    second = operator.get("second")
    assert second["status"]["phase"] == "Stopped"
    assert condition(second, "Duplicate")["status"] == "False"


def test_nothing_is_declared_before_all_objects_are_known(operator: Operator) -> None:
    operator.apply(body("first", runPolicy="Always"))
    operator.settle()
    operator.apply(body("second", runPolicy="Stopped"))
    # A new operator's watch tells of the younger one first. Its word counts for nothing, and stops nobody.
    again = Operator(operator.control_plane, operator.namespace, operator.simulation)
    again.objects.put(operator.get("second"))
    again.host.before(None)
    again.host.after(again.simulation.round())
    declared = operator.declared()
    assert declared is not None
    assert declared.run_policy is RunPolicy.ALWAYS
    assert unready(again.objects, again.publisher) == "the EditContainers are not listed yet"
    again.settle(3)
    assert unready(again.objects, again.publisher) == ""
    assert operator.declared() == declared
    assert len(operator.simulation.live()) == 1


def test_what_no_schema_can_judge_is_told_in_the_status(operator: Operator) -> None:
    decomposed = "e\u0301"
    wrong = body("eve")
    wrong["spec"]["clientId"] = decomposed
    operator.apply(wrong, body(runPolicy="Always"))
    operator.settle()
    shown = operator.get("eve")
    for kind, status in (("Ready", "False"), ("Stalled", "True")):
        assert (condition(shown, kind)["status"], condition(shown, kind)["reason"]) == (status, "Invalid")
    assert "NFC" in condition(shown, "Stalled")["message"]
    assert shown["status"]["phase"] == "Invalid"
    # Once, and it keeps nobody from anything.
    assert operator.phase() == "Running"
    assert sum(each.name == "eve" for each in operator.asked()) == 1
    assert set(operator.objects.containers()) == {TOM.container_id}


def test_an_edit_that_cannot_be_read_takes_nothing_back(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    declared = operator.declared()
    edited = operator.get()
    # As a newer definition lets through what this controller does not know.
    edited["spec"]["runPolicy"] = "Nightly"
    edited["metadata"]["generation"] = 2
    edited["metadata"]["resourceVersion"] = str(int(edited["metadata"]["resourceVersion"]) + 1)
    operator.objects.put(edited)
    for _ in range(3):
        operator.host.before(None)
        operator.host.after(operator.simulation.round())
    assert operator.declared() == declared
    assert len(operator.simulation.live()) == 1


# Mirrors


def test_what_sessions_ask_for_is_mirrored_and_goes_with_it(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    name = TOM.kubernetes_name
    shown = operator.get(name)
    assert shown["metadata"]["labels"] == {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}
    assert (shown["status"]["sessionCount"], shown["status"]["activeSessions"]) == (1, 1)
    assert shown["status"]["nextAction"]["what"] == "drain"
    verbs = [each.verb for each in operator.asked() if each.resource == "editcontainers"]
    assert verbs in (["create", "patch"], ["create", "patch", "patch"])
    operator.simulation.registry.open("s2", TOM)
    operator.settle(2)
    assert operator.get(name)["status"]["sessionCount"] == 2
    assert operator.declared() is None
    for session in ("s1", "s2"):
        operator.simulation.registry.release(session)
    operator.settle(3)
    assert operator.get(name)["status"]["sessionCount"] == 0
    operator.simulation.clock.step(minutes=22)
    operator.asked()
    operator.settle(12)
    assert operator.simulation.live() == []
    assert operator.names() == set()
    verbs = [each.verb for each in operator.asked() if each.resource == "editcontainers"]
    assert (verbs.count("patch") <= 2, verbs.count("delete"), verbs.count("create")) == (True, 1, 0)


def test_a_mirror_that_is_deleted_comes_back_and_one_that_is_edited_is_put_right(operator: Operator) -> None:
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    name = TOM.kubernetes_name
    operator.delete(name)
    operator.settle(2)
    assert operator.phase(name) == "Running"
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
    declared = operator.declared()
    assert declared is not None
    assert declared.run_policy is RunPolicy.ALWAYS
    assert operator.names() == {name}
    # And back: with the label, it asks for nothing any more.
    operator.merge(name, {"metadata": {"labels": {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}}})
    operator.settle(2)
    assert operator.declared() is None
    assert operator.get(name)["spec"]["runPolicy"] == "Auto"


def test_a_declaration_of_another_name_that_gets_the_label_is_kept_and_says_why_it_rests(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always", idleTimeout="2h"))
    operator.settle()
    operator.merge("tom", {"metadata": {"labels": {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}}})
    operator.settle(3)
    assert operator.declared() is None
    shown = operator.get()
    assert shown["spec"]["idleTimeout"] == "2h"
    assert "take the label off" in condition(shown, "Ready")["message"]


def test_a_name_that_somebody_else_has_is_left_to_them_and_said_once(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    # Ann's object has the name that Tom's mirror would have.
    operator.apply(body(TOM.kubernetes_name, ANN, runPolicy="Always"))
    operator.simulation.registry.open("s1", TOM)
    operator.simulation.registry.open("s2", BOB)
    with caplog.at_level(logging.INFO, "editctl"):
        for _ in range(12):
            operator.round(listing=False)
            operator.simulation.clock.step(seconds=2)
    assert sum(each.verb == "create" and each.resource == "editcontainers" for each in operator.asked()) == 2
    assert operator.get(TOM.kubernetes_name)["spec"]["userId"] == "ann"
    assert operator.phase(BOB.kubernetes_name) == "Running"
    assert len(operator.simulation.live()) == 3
    told = [fields(r)["message"] for r in caplog.records if r.getMessage() == "kubernetes"]
    assert [TOM.kubernetes_name in each for each in told] == [True]
    # Nor is anybody looked at more often for it.
    assert operator.looks.count(TOM.container_id) == 0


def test_without_mirrors_only_what_is_declared_is_shown(made: Callable[..., Operator]) -> None:
    operator = made(mirrors=False)
    operator.simulation.registry.open("s1", TOM)
    operator.settle()
    assert len(operator.simulation.live()) == 1
    assert operator.names() == set()


# What goes wrong


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.editctl_fields  # type: ignore[attr-defined]
    return found


def test_an_outage_of_the_api_server_stops_status_and_nothing_else(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    simulation = operator.simulation
    operator.apply(body(runPolicy="Always"))
    simulation.registry.open("s1", ANN)
    operator.settle()
    assert len(simulation.live()) == 2
    shown, declared = operator.get()["status"], operator.declared()
    operator.control_plane.stop()
    try:
        with caplog.at_level(logging.INFO, "editctl"):
            simulation.registry.release("s1")
            simulation.clock.step(minutes=22)
            simulation.registry.open("s2", BOB)
            for _ in range(24):
                simulation.registry.touch("s2")
                operator.round()
                simulation.clock.step(minutes=1)
        running = {simulation.tables.get_record(i.container_id).status for i in (TOM, BOB)}  # type: ignore[union-attr]
        assert running == {"running"}
        assert simulation.tables.get_record(ANN.container_id).status == "terminated"  # type: ignore[union-attr]
        assert operator.declared() == declared
        told = [fields(r)["message"] for r in caplog.records if r.getMessage() == "kubernetes"]
        assert len(told) == 1, told
        assert "AWS is reconciled all the same" in told[0]
    finally:
        operator.control_plane.start()
    caplog.clear()
    with caplog.at_level(logging.INFO, "editctl"):
        operator.settle(3)
    assert "the API server answers again" in [
        fields(r)["message"] for r in caplog.records if r.getMessage() == "kubernetes"
    ]
    assert operator.names() == {"tom", BOB.kubernetes_name}
    assert operator.phase(BOB.kubernetes_name) == "Running"
    assert operator.get()["status"]["taskArn"] == shown["taskArn"]


def test_a_new_operator_finds_all_as_it_is(control_plane: ControlPlane, operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.simulation.registry.open("s1", ANN)
    operator.settle()
    again = Operator(control_plane, operator.namespace, operator.simulation)
    again.asked()
    writes = operator.simulation.writes()
    again.settle(3)
    assert (again.asked(), operator.simulation.writes() - writes) == ([], 0)
    # And one that was deleted while nobody looked is taken back.
    operator.delete("tom")
    later = Operator(control_plane, operator.namespace, operator.simulation)
    later.settle(3)
    assert operator.declared() is None


def test_a_plan_beside_it_is_the_same_to_the_byte(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"), body("ann", ANN, runPolicy="Stopped"))
    operator.simulation.registry.open("s1", BOB)
    operator.settle()
    # There is something to do: what is declared has changed, and Ann is asked for.
    operator.apply(body(runPolicy="Stopped"), body("ann", ANN, runPolicy="Always"))
    operator.publisher.relist()
    operator.publisher.turn()
    operator.host.before(None)
    beside = operator.simulation.new_controller().planner.view()
    done = operator.simulation.round()
    under, alone = (text(plan_document(v.world, v.plan)) for v in (done, beside))
    assert under == alone
    assert {a.container_id for a in done.plan.changes} == {TOM.container_id, ANN.container_id}


def test_an_object_that_goes_while_it_is_written_is_no_error(operator: Operator) -> None:
    operator.apply(body(runPolicy="Stopped"))
    operator.publisher.turn()
    operator.host.before(None)
    operator.host.after(operator.simulation.round())
    operator.delete("tom")
    operator.looks.clear()
    operator.publisher.turn()
    assert [(each.verb, each.status) for each in operator.asked()] == [("patch", 404), ("get", 404)]
    assert operator.looks == [TOM.container_id]
    operator.round(listing=False)
    assert operator.declared() is None


def test_an_object_that_changes_while_it_is_written_is_looked_at_and_written_again(operator: Operator) -> None:
    operator.apply(body(runPolicy="Stopped"))
    operator.publisher.turn()
    operator.host.before(None)
    operator.host.after(operator.simulation.round())
    operator.merge("tom", {"metadata": {"annotations": {"by": "somebody"}}})
    assert operator.publisher.turn() == pytest.approx(2)
    assert [(each.verb, each.status) for each in operator.asked()] == [("patch", 409), ("get", 200)]
    operator.simulation.clock.step(seconds=2)
    operator.publisher.turn()
    assert [(each.verb, each.status) for each in operator.asked()] == [("patch", 200)]
    assert operator.phase() == "Stopped"


def test_a_status_that_an_older_definition_refuses_keeps_no_other_from_being_written(
    operator: Operator, kubectl: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    older = resource.definition()
    status = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    status["properties"]["phase"]["enum"] = ["Running", "Starting"]
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=older)
    try:
        operator.apply(body("probe", BOB))
        until(lambda: _refuses(operator, "probe"), 30, "the older definition is served")
        operator.apply(body("ann", ANN, runPolicy="Stopped"), body(runPolicy="Always"))
        operator.delete("probe")
        with caplog.at_level(logging.INFO, "editctl"):
            for _ in range(12):
                operator.round(listing=False)
                operator.simulation.clock.step(seconds=2)
        refused = [(each.name, each.status) for each in operator.asked() if each.status == 422]
        assert refused == [("ann", 422)]
        assert operator.phase() == "Running"
        told = [fields(r)["message"] for r in caplog.records if r.getMessage() == "kubernetes"]
        assert len(told) == 1, told
        assert "the status of ann is refused, HTTP 422" in told[0]
    finally:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=resource.definition())
        until(lambda: not _refuses(operator, "tom"), 30, "the right definition is served")
    operator.settle(2)
    assert operator.phase("ann") == "Stopped"


def _refuses(operator: Operator, name: str) -> bool:
    where = path(operator.namespace, name) + "/status?dryRun=All"
    return operator.control_plane.merge(where, {"status": {"phase": "Held"}}).status == 422


def test_a_token_that_was_renewed_is_read_anew(operator: Operator) -> None:
    operator.apply(body(runPolicy="Stopped"))
    operator.settle(2)
    right, operator.token = operator.token, "of-yesterday"
    operator.simulation.clock.step(minutes=1)
    operator.publisher.relist()
    operator.publisher.turn()
    assert operator.publisher.trouble.startswith("HTTP 401")
    operator.token = right
    operator.publisher.turn()
    assert operator.publisher.trouble == ""


def test_one_that_cannot_be_shown_keeps_no_other_from_being_shown(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.apply(body(runPolicy="Stopped"), body("ann", ANN, runPolicy="Stopped"))
    operator.publisher.turn()
    operator.host.before(None)
    done = operator.simulation.round()
    operator.host.after(done)
    wrong = Show(TOM.container_id, None)
    object.__setattr__(wrong, "summary", "no summary")
    operator.publisher.show({TOM.container_id: wrong})
    with caplog.at_level(logging.INFO, "editctl"):
        operator.publisher.turn()
    assert operator.phase("ann") == "Stopped"
    [told] = [fields(r) for r in caplog.records if r.getMessage() == "kubernetes"]
    assert told["containerId"] == TOM.container_id
    operator.settle(2)
    assert operator.phase() == "Stopped"


# Events


def test_what_is_done_is_told_as_an_event_with_our_reason(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.simulation.registry.open("s1", ANN)
    operator.settle()
    found = operator.control_plane.request("GET", f"/api/v1/namespaces/{operator.namespace}/events").body["items"]
    told = {e["involvedObject"]["name"]: e for e in found}
    assert {name: e["reason"] for name, e in told.items()} == {"tom": "Declared", ANN.kubernetes_name: "SessionActive"}
    assert told["tom"]["message"].startswith("start: task")
    assert told["tom"]["involvedObject"]["uid"] == operator.get()["metadata"]["uid"]
    described = operator.control_plane.kubectl("describe", "-n", operator.namespace, "ec", "tom").stdout
    assert "Declared" in described.partition("Events:")[2]


def test_what_happens_again_and_again_is_told_once_in_ten_minutes(operator: Operator) -> None:
    operator.apply(body(runPolicy="Always"))
    operator.settle()
    for _ in range(30):
        for task in operator.simulation.live():
            operator.simulation.ecs.exit_task(task["taskArn"], 1)
        operator.settle(4, seconds=10)
    starts = [each for each in operator.simulation.tasks() if each["startedBy"] == "editctl/default"]
    posted = [each for each in operator.asked() if each.resource == "events"]
    assert len(starts) > 4
    assert len(posted) <= 8
    found = operator.control_plane.request("GET", f"/api/v1/namespaces/{operator.namespace}/events").body["items"]
    assert max(e["count"] for e in found) > 1


# The watch


def test_kopf_names_what_is_due_and_comes_back_when_the_server_was_away(operator: Operator) -> None:
    due = operator.simulation.controller.due
    watch = Watch(operator.objects, operator.publisher, due, lambda **_: operator.login(), operator.namespace)
    watch.start()
    try:
        operator.apply(body())
        taken = _taken(due)
        assert TOM.container_id in taken
        operator.control_plane.restart()
        operator.apply(body("ann", ANN))
        assert ANN.container_id in _taken(due)
        # A status is no news: it would call for a look, which writes a status.
        operator.control_plane.merge(path(operator.namespace, "ann") + "/status", {"status": {"phase": "Held"}})
        operator.merge("tom", {"spec": {"idleTimeout": "5m"}})
        assert _taken(due) == {TOM.container_id}
    finally:
        watch.close()


def test_what_is_deleted_while_the_watch_is_broken_is_noticed(
    control_plane: ControlPlane, operator: Operator, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that was restarted no longer has what the watch would go on from: 410, and a deletion is in no event."""
    objects, due = Objects(), Due()
    publisher = Publisher(Api(operator.login, namespace, _wall), objects, _wall, lambda _: None)
    watch = Watch(objects, publisher, due, lambda **_: operator.login(), namespace)
    writer = threading.Thread(target=publisher.run, daemon=True)
    operator.apply(body(), body("ann", ANN))
    writer.start()
    with caplog.at_level(logging.DEBUG, "kopf._cogs.clients.watching"):
        watch.start()
        try:
            until(lambda: len(objects) == 2 and _is_watched(control_plane, namespace), 30, "both are seen")
            objects.take_changed()
            # What else is written meanwhile makes the server's memory begin later than the watch would go on.
            for number in range(3):
                operator.control_plane.kubectl("create", "-n", namespace, "configmap", f"other-{number}")
            control_plane.restart()
            operator.delete("tom")
            operator.apply(body("bob", BOB))
            until(lambda: "Restarting the watch-stream" in caplog.text, 60, "the watch was told 410")
            until(lambda: objects.containers() == {ANN.container_id, BOB.container_id}, 30, "as it is now")
            assert TOM.container_id in objects.take_changed()
            operator.delete("ann")
            until(lambda: objects.containers() == {BOB.container_id}, 30, "the watch goes on")
            assert ANN.container_id in objects.take_changed()
        finally:
            publisher.close()
            watch.close()
            writer.join(10)


def _is_watched(control_plane: ControlPlane, namespace: str) -> bool:
    return any(each.verb == "watch" for each in control_plane.asked(namespace))


def _wall() -> int:
    return time.time_ns() // 1_000_000


def _taken(due: Any) -> set[str]:
    """Wait for hints; a watch that was broken is taken up again within a few seconds."""
    found: set[str] = set()

    def come() -> bool:
        found.update(due.take(0))
        return bool(found)

    until(come, 60, "the watch names a container")
    return found
