"""What the API server makes of EditContainers: which it takes, and what it answers to those that it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, Declaration, Hold, RunPolicy
from controller.kubernetes import resource
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.objects import path

Spec = dict[str, Any]

TOM: Spec = {"clientId": "acme", "projectId": "blog", "userId": "tom@acme.com"}
UNTIL = "2026-11-30T08:00:00Z"
UNITS = "a duration carries units, the largest first: 90s, 20m, 2h, 1h30m"
RANGE = "it may be 10s to 7d"
ZONED = "a time of this century with date, seconds and zone: 2026-11-25T15:00:00Z"
CONTROL = "has a control character, which can be neither a tag nor an environment value; remove it"
TOGETHER = "clientId, projectId and userId are too long together"


def hold(**words: Any) -> Spec:
    return {"hold": {"reason": "migration", "until": UNTIL, **words}}


TAKEN: Mapping[str, Spec] = {
    "least": {},
    "auto": {"runPolicy": "Auto"},
    "always": {"runPolicy": "Always"},
    "stopped": {"runPolicy": "Stopped"},
    "idle-least": {"idleTimeout": "10s"},
    "idle-seconds": {"idleTimeout": "90s"},
    "idle-minutes": {"idleTimeout": "20m"},
    "idle-mixed": {"idleTimeout": "1h30m"},
    "idle-all-units": {"idleTimeout": "1d2h3m4s"},
    "idle-most": {"idleTimeout": "7d"},
    "idle-most-in-seconds": {"idleTimeout": "604800s"},
    "sizes": {"cpu": 2048, "memory": 8192},
    "held": hold(),
    "held-in-another-zone": hold(until="2026-11-30T09:00:00+01:00"),
    "held-to-the-millisecond": hold(until="2026-11-30T08:00:00.125Z"),
    "held-in-the-past": hold(until="2020-01-01T00:00:00Z"),
    "dashes": {"clientId": "a-b", "projectId": "-", "userId": "c--d"},
    "any-script": {"clientId": "Ærø", "projectId": "プロジェクト", "userId": "żółw@example.pl"},
    "not-for-a-tag": {"userId": "50% #off?"},
    "long-letters": {"clientId": "ü" * 200},
    "longest": {"clientId": "a" * (256 - len("-blog-tom@acme.com"))},
}

# Each with what the answer names: the field, and what is wrong with it or what to write instead.
REFUSED: Mapping[str, tuple[Spec, str, str]] = {
    "no-client": ({"clientId": None}, "spec.clientId", "Required value"),
    "no-project": ({"projectId": None}, "spec.projectId", "Required value"),
    "no-user": ({"userId": None}, "spec.userId", "Required value"),
    "empty-client": ({"clientId": ""}, "spec.clientId", "at least 1 chars long"),
    "empty-project": ({"projectId": ""}, "spec.projectId", "at least 1 chars long"),
    "empty-user": ({"userId": ""}, "spec.userId", "at least 1 chars long"),
    "control-in-client": ({"clientId": "ac\x07me"}, "spec.clientId", f"clientId {CONTROL}"),
    "control-in-project": ({"projectId": "blog\x00"}, "spec.projectId", f"projectId {CONTROL}"),
    "control-in-user": ({"userId": "tom\x1b[2J"}, "spec.userId", f"userId {CONTROL}"),
    "newline-in-user": ({"userId": "tom\nAWS_PROFILE=x"}, "spec.userId", f"userId {CONTROL}"),
    "long-client": ({"clientId": "a" * 253}, "spec.clientId", "may not be more than 252"),
    "long-together": ({"clientId": "a" * (257 - len("-blog-tom@acme.com"))}, "spec", TOGETHER),
    "long-escaped": ({"projectId": "%" * 90}, "spec", TOGETHER),
    "policy-small": ({"runPolicy": "always"}, "spec.runPolicy", 'supported values: "Auto", "Always", "Stopped"'),
    "policy-other": ({"runPolicy": "Never"}, "spec.runPolicy", 'supported values: "Auto", "Always", "Stopped"'),
    "policy-empty": ({"runPolicy": ""}, "spec.runPolicy", 'supported values: "Auto", "Always", "Stopped"'),
    "idle-bare": ({"idleTimeout": "20"}, "spec.idleTimeout", UNITS),
    "idle-empty": ({"idleTimeout": ""}, "spec.idleTimeout", UNITS),
    "idle-fraction": ({"idleTimeout": "1.5h"}, "spec.idleTimeout", UNITS),
    "idle-words": ({"idleTimeout": "20 minutes"}, "spec.idleTimeout", UNITS),
    "idle-iso": ({"idleTimeout": "PT20M"}, "spec.idleTimeout", UNITS),
    "idle-order": ({"idleTimeout": "30m1h"}, "spec.idleTimeout", UNITS),
    "idle-negative": ({"idleTimeout": "-20m"}, "spec.idleTimeout", UNITS),
    "idle-spaces": ({"idleTimeout": " 20m"}, "spec.idleTimeout", UNITS),
    "idle-nothing": ({"idleTimeout": "0s"}, "spec.idleTimeout", RANGE),
    "idle-short": ({"idleTimeout": "9s"}, "spec.idleTimeout", RANGE),
    "idle-long": ({"idleTimeout": "7d1s"}, "spec.idleTimeout", RANGE),
    "idle-very-long": ({"idleTimeout": "999999999d"}, "spec.idleTimeout", RANGE),
    "idle-number": ({"idleTimeout": 20}, "spec.idleTimeout", "string"),
    "hold-without-until": ({"hold": {"reason": "migration"}}, "spec.hold.until", "Required value"),
    "hold-without-reason": ({"hold": {"until": UNTIL}}, "spec.hold.reason", "Required value"),
    "hold-for-no-reason": (hold(reason=""), "spec.hold.reason", "at least 1 chars long"),
    "hold-for-a-novel": (hold(reason="x" * 257), "spec.hold.reason", "may not be more than 256"),
    "hold-until-a-word": (hold(until="tomorrow"), "spec.hold.until", ZONED),
    "hold-until-a-day": (hold(until="2026-11-30"), "spec.hold.until", ZONED),
    "hold-without-zone": (hold(until="2026-11-30T08:00:00"), "spec.hold.until", ZONED),
    "hold-until-month-13": (hold(until="2026-13-01T00:00:00Z"), "spec.hold.until", ZONED),
    "hold-until-february-30": (hold(until="2026-02-30T08:00:00Z"), "spec.hold.until", ZONED),
    "hold-until-another-century": (hold(until="2126-11-30T08:00:00Z"), "spec.hold.until", ZONED),
    "hold-a-duration": (hold(until="2h"), "spec.hold.until", ZONED),
    "cpu-of-kubernetes": ({"cpu": "500m"}, "spec.cpu", "integer|numeric"),
    "cpu-too-little": ({"cpu": 1}, "spec.cpu", "greater than or equal to 128"),
    "cpu-fraction": ({"cpu": 0.5}, "spec.cpu", "integer|numeric"),
    "memory-of-kubernetes": ({"memory": "2Gi"}, "spec.memory", "integer|numeric"),
    "memory-too-much": ({"memory": 2_000_000}, "spec.memory", "less than or equal to 1048576"),
    "misspelt": ({"idletimeout": "20m"}, "spec.idletimeout", "unknown field|field not declared"),
}

CHANGES: Mapping[str, tuple[Spec, str | None]] = {
    "client": ({"clientId": "zeta"}, "clientId cannot be changed"),
    "project": ({"projectId": "shop"}, "projectId cannot be changed"),
    "user": ({"userId": "eva"}, "userId cannot be changed"),
    "nothing": ({}, None),
    "policy": ({"runPolicy": "Stopped"}, None),
    "idle": ({"idleTimeout": "2h"}, None),
    "held": (hold(), None),
}


def body(name: str, spec: Spec, namespace: str) -> Spec:
    """Return an object; None in a spec is a field that is not there."""
    whole = {key: value for key, value in {**TOM, **spec}.items() if value is not None}
    return {
        "apiVersion": resource.API_VERSION,
        "kind": resource.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": whole,
    }


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What kubectl said of many objects that it was given at once: one answer for each name."""

    taken: frozenset[str]
    refused: Mapping[str, str]


MODES = {"apply": ("apply", "-f", "-"), "server-side": ("apply", "--server-side", "-f", "-")}


@pytest.fixture(scope="module", params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def verdicts(control_plane: ControlPlane, crd: str, mode: str) -> Iterator[Verdicts]:
    """Return what the server said of all of them, in a namespace of its own; one kubectl is much quicker than 70."""
    namespace = f"judged-{mode}"
    control_plane.kubectl("create", "namespace", namespace)
    objects = [body(name, spec, namespace) for name, spec in TAKEN.items()]
    objects += [body(name, spec, namespace) for name, (spec, _, _) in REFUSED.items()]
    yield judged(control_plane, mode, objects)
    control_plane.request("DELETE", path(namespace))
    control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}")


def judged(control_plane: ControlPlane, mode: str, objects: list[Spec]) -> Verdicts:
    """Return what the server said of each object."""
    done = control_plane.kubectl(*MODES[mode], stdin=objects, check=False)
    taken = frozenset(re.findall(r"^editcontainer\.webordinary\.com/(\S+) ", done.stdout, re.MULTILINE))
    names = {o["metadata"]["name"]: o for o in objects}
    refused: dict[str, str] = {}
    for line in done.stderr.splitlines():
        found = re.search(r'EditContainer\.webordinary\.com "([a-z0-9-]+)" is invalid|\(\S+/([a-z0-9-]+);', line)
        if found:
            refused[found[1] or found[2]] = line
        elif "strict decoding error" in line:
            # The one answer without a name.
            refused["misspelt"] = line
    assert taken | set(refused) == set(names), done.stderr
    return Verdicts(taken, refused)


@pytest.mark.parametrize("name", TAKEN)
def test_what_can_be_followed_is_taken(verdicts: Verdicts, name: str):
    assert name in verdicts.taken, verdicts.refused.get(name)


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_can_be_read_by_the_controller(name: str):
    found = resource.read(body(name, TAKEN[name], "n"))
    assert found.identity.client_id == {**TOM, **TAKEN[name]}["clientId"]
    assert found.declaration.run_policy == TAKEN[name].get("runPolicy", "Auto")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_with_the_field_and_what_to_do(verdicts: Verdicts, name: str):
    _, field, said = REFUSED[name]
    assert name not in verdicts.taken
    answer = verdicts.refused[name]
    assert re.search(rf"{re.escape(field)}\b", answer), answer
    assert any(word in answer for word in (said.split("|") if "|" in said else [said])), answer


def test_there_are_enough_of_them():
    assert len(TAKEN) + len(REFUSED) >= 40


@pytest.mark.parametrize("mode", MODES)
def test_whose_container_it_is_cannot_be_changed(control_plane, crd, namespace, mode):
    first = [body(name, {}, namespace) for name in CHANGES]
    assert judged(control_plane, mode, first).taken == set(CHANGES)
    verdicts = judged(control_plane, mode, [body(name, change, namespace) for name, (change, _) in CHANGES.items()])
    for name, (_, said) in CHANGES.items():
        if said is None:
            assert name in verdicts.taken
        else:
            assert f"{said}, it says whose container this is; delete this object" in verdicts.refused[name]


def test_defaults_are_filled_in(control_plane, crd, namespace):
    control_plane.kubectl("apply", "-f", "-", stdin=body("tom", {}, namespace))
    spec = control_plane.request("GET", path(namespace, "tom")).body["spec"]
    assert spec == {**TOM, "runPolicy": "Auto"}


def test_status_is_written_apart_from_spec(control_plane, crd, namespace):
    control_plane.kubectl("apply", "-f", "-", stdin=body("tom", {}, namespace))
    one = control_plane.merge(path(namespace, "tom"), {"status": {"phase": "Running"}, "spec": {"idleTimeout": "1h"}})
    assert "status" not in one.body
    assert one.body["metadata"]["generation"] == 2
    other = control_plane.merge(
        path(namespace, "tom") + "/status", {"status": {"phase": "Running"}, "spec": {"idleTimeout": "2h"}}
    )
    assert other.body["status"] == {"phase": "Running"}
    assert other.body["spec"]["idleTimeout"] == "1h"
    assert other.body["metadata"]["generation"] == 2


# The values of core, through the server and back


@pytest.mark.parametrize(
    "declaration",
    [
        Declaration(uid="u"),
        Declaration(uid="u", run_policy=RunPolicy.ALWAYS, idle_timeout=90 * MINUTE, cpu="1024", memory="2048"),
        Declaration(uid="u", run_policy=RunPolicy.STOPPED, hold=Hold("", "migration", 1_796_000_000_000)),
    ],
    ids=["least", "sizes", "held"],
)
def test_a_declaration_comes_back_as_it_went(control_plane, crd, namespace, declaration):
    identity = ContainerIdentity("acme", "my-blog", "żółw@example.pl")
    name = identity.kubernetes_name
    spec = resource.spec_of(identity, declaration).model_dump(mode="json", by_alias=True, exclude_none=True)
    control_plane.kubectl("apply", "-f", "-", stdin=body(name, spec, namespace))
    found = resource.read(control_plane.request("GET", path(namespace, name)).body)
    assert (found.namespace, found.name, found.identity) == (namespace, name, identity)
    assert not found.is_mirror
    assert found.declaration.uid
    assert found.declaration.generation == 1
    assert (found.declaration.run_policy, found.declaration.idle_timeout) == (
        declaration.run_policy,
        declaration.idle_timeout,
    )
    assert (found.declaration.cpu, found.declaration.memory) == (declaration.cpu, declaration.memory)
    if declaration.hold:
        assert found.declaration.hold == Hold(
            f"EditContainer {namespace}/{name}", declaration.hold.reason, declaration.hold.until
        )


def test_a_mirror_is_taken_and_told_from_a_declaration(control_plane, crd, namespace):
    identity = ContainerIdentity("acme", "my-blog", "tom@acme.com")
    made = control_plane.request("POST", path(namespace), resource.mirror_of(identity, namespace))
    assert made.status == 201, made.message
    assert resource.read(made.body).is_mirror
    listed = control_plane.kubectl("get", "ec", "-n", namespace, "-l", "webordinary.com/origin=sessions", "-o", "name")
    assert listed.stdout.split() == [f"editcontainer.webordinary.com/{identity.kubernetes_name}"]
