"""What people see with kubectl, of containers as the planner really judges them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import pytest

from controller.core.conditions import summaries
from controller.core.identity import ContainerIdentity
from controller.core.model import Save
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from controller.kubernetes import resource
from tests import builders
from tests.builders import ago, arn, drain, failure, record, session, task, world
from tests.kubernetes.objects import ROOT, Json, path

JOHN = ContainerIdentity("ameliastamps", "website", "john@email.com")
LOU = ContainerIdentity("zeta", "site", "lou")
EVA = ContainerIdentity("acme", "shop", "eva")


# Half-way between two minutes: kubectl looks a moment later.
def statuses() -> Mapping[ContainerIdentity, Json]:
    """Return the status of one container in use, one whose work is being saved, and one that does not start."""
    john, lou, eva = (each.container_id for each in (JOHN, LOU, EVA))
    saved = Save("saved", "main", "9c1e2f0", "9c1e2f0", at=ago("630s"))
    seen = world(
        session("s1", john, age="690s"),
        session("s2", john, age="31m"),
        record(
            container=john,
            age="690s",
            launched="90m",
            session_count=2,
            container_ip="10.0.3.17",
            generation=4,
            save=saved,
        ),
        task(1, john, age="90m", ip="10.0.3.17", generation=4),
        session("s3", lou, age="1410s"),
        record(
            "draining",
            lou,
            age="1410s",
            launched="3h",
            task_arn=arn(2),
            container_ip="10.0.3.21",
            drain=drain(age="9s"),
        ),
        task(2, lou, age="3h", ip="10.0.3.21"),
        session("s4", eva, age="750s"),
        record(
            "failed",
            eva,
            age="750s",
            generation=2,
            failure=failure(5, reason="CannotPullContainerError", retry_in="90s"),
        ),
    )
    plan = compute_plan(seen, Policy(agents=True), builders.NOW)
    saves = {each.container_id: each.save for each in seen.records}
    return {
        each.identity: resource.status_of(
            each, saves[each.container_id], observed_generation=1, before=None, now=builders.NOW
        )
        for each in summaries(plan)
        if each.identity is not None
    }


@pytest.fixture
def shown(control_plane, crd, namespace, monkeypatch):
    """Return a namespace in which three containers are mirrored, with their status."""
    # The server and kubectl have a clock of their own.
    monkeypatch.setattr(builders, "NOW", int(time.time() * 1000))
    for identity, status in statuses().items():
        made = control_plane.request("POST", path(namespace), resource.mirror_of(identity, namespace))
        assert made.status == 201, made.message
        written = control_plane.merge(path(namespace, identity.kubernetes_name) + "/status", {"status": status})
        # Nothing of it was pruned: the definition knows every field that is written.
        assert written.body["status"] == status, written.message
    return namespace


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of a table by name; columns are two spaces apart or more."""
    return {cells[0]: cells[1:] for line in text.splitlines() if (cells := re.split(r" {2,}", line.rstrip()))}


def test_get_says_how_they_are(kubectl, shown):
    found = rows(kubectl("get", "ec", "-n", shown).stdout)
    assert found.pop("NAME") == ["PHASE", "ACTIVE", "OPEN", "QUIET", "IP", "NEXT", "AGE"]
    # The last is the age of the object.
    assert {name: cells[:-1] for name, cells in found.items()} == {
        "acme-shop-eva": ["Failed", "1", "1", "12m", "start"],
        JOHN.kubernetes_name: ["Running", "1", "2", "11m", "10.0.3.17", "drain"],
        "zeta-site-lou": ["Draining", "0", "1", "23m", "10.0.3.21", "stop"],
    }


def test_wide_says_why_and_when(kubectl, shown):
    found = rows(kubectl("get", "ec", "-n", shown, "-o", "wide").stdout)
    assert found["NAME"][7:] == ["CONTAINER", "POLICY", "BECAUSE", "SAVED", "AT"]
    assert found[JOHN.kubernetes_name][7:11] == [JOHN.container_id, "Auto", "InUse", "10m"]
    assert found["zeta-site-lou"][7:10] == ["zeta-site-lou", "Auto", "Idle"]


def test_describe_tells_the_whole(kubectl, shown):
    told = kubectl("describe", "ec", "-n", shown, JOHN.kubernetes_name).stdout
    facts = dict(re.findall(r"^ +([A-Z][A-Za-z ]+): +(\S.*)$", told, re.MULTILINE))
    assert facts["Container Id"] == JOHN.container_id
    assert facts["Container Ip"] == "10.0.3.17"
    assert (facts["What"], facts["Why"]) == ("drain", "InUse")
    assert facts["Remote Commit"] == "9c1e2f0"
    assert re.search(r"Message: +1 active session, newest 11 min ago\n.*\n +Reason: +InUse\n", told), told


def test_conditions_can_be_waited_for(kubectl, shown):
    kubectl("wait", "--for=condition=Ready", "--timeout=5s", "-n", shown, f"ec/{JOHN.kubernetes_name}")
    kubectl("wait", "--for=condition=Stalled", "--timeout=5s", "-n", shown, "ec/acme-shop-eva")
    kubectl("wait", "--for=jsonpath={.status.phase}=Draining", "--timeout=5s", "-n", shown, "ec/zeta-site-lou")


def test_explain_says_what_each_field_is(kubectl, crd):
    told = kubectl("explain", "editcontainer.spec").stdout
    for field in ("clientId", "idleTimeout", "runPolicy", "hold"):
        assert re.search(rf"^  {field}\t<\w+>", told, re.MULTILINE), told
    assert "Stopped: its work is" in told
    assert (
        "<no description>" not in kubectl("explain", "editcontainer", "--recursive=false").stdout.partition("spec")[2]
    )


@pytest.mark.parametrize("name", ["editcontainers", "editcontainer", "ec", "webordinary"])
def test_it_goes_by_short_names_and_categories(kubectl, shown, name):
    assert JOHN.kubernetes_name in kubectl("get", name, "-n", shown).stdout


GUIDE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
AGE = re.compile(r"\d{4}-\d\d-\d\dT\S+|\d+[smhd]\d*[smh]?")


def of_the_guide(command: str) -> str:
    """Return what docs/kubernetes.md says that a command prints."""
    return GUIDE.partition(f"\n$ {command}\n")[2].partition("\n```")[0].partition("\n$ ")[0]


@pytest.mark.parametrize("command", ["kubectl get ec", "kubectl get ec -o wide"])
def test_the_guide_shows_what_is_shown(kubectl, shown, command):
    def cells(text: str) -> dict[str, list[str]]:
        # Ages pass; the one of the last use is that of the story.
        return {
            name: [each for each in line if not AGE.fullmatch(each) or each == line[3]]
            for name, line in rows(text).items()
        }

    printed = kubectl(*command.split()[1:], "-n", shown).stdout
    assert len(cells(printed)) == 4
    assert cells(of_the_guide(command)) == cells(printed)


def test_the_guide_describes_what_is_described(kubectl, shown):
    command = "kubectl describe ec acme-shop-eva"
    printed = AGE.sub("TIME", kubectl(*command.split()[1:], "-n", shown).stdout)
    pieces = [each.strip("\n") for each in AGE.sub("TIME", of_the_guide(command)).split("…") if each.strip()]
    assert len(pieces) == 2
    for piece in pieces:
        assert piece in printed
