"""The API server in memory answers as the real one does, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf
import pytest

from controller.kubernetes import resource
from controller.kubernetes.api import Api, ApiError
from tests.builders import identity
from tests.fakes.clock import FakeClock
from tests.fakes.kubernetes import FakeServer
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.objects import MANIFESTS

TOM = identity("acme-blog-tom")
NAME = TOM.kubernetes_name


@pytest.fixture(params=["real", "in memory"])
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Api:
    if request.param == "in memory":
        return FakeServer(clock).api()
    control_plane: ControlPlane = request.getfixturevalue("control_plane")
    request.getfixturevalue("crd")
    namespace: str = request.getfixturevalue("namespace")
    kubectl: Callable[..., Any] = request.getfixturevalue("kubectl")
    kubectl("apply", "-n", namespace, "-f", str(MANIFESTS / "base" / "role.yaml"))

    def login() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=control_plane.url, ca_data=control_plane.certificate, token=control_plane.account.token
        )

    return Api(login, namespace, clock)


def version_of(body: dict[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])


def status(call: Callable[[], object]) -> int:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.status


def test_what_is_made_has_its_defaults_and_is_listed(api: Api) -> None:
    made = api.create(resource.mirror_of(TOM, api.namespace))
    assert made["spec"]["runPolicy"] == "Auto"
    assert (made["metadata"]["generation"], made.get("status")) == (1, None)
    assert made["metadata"]["uid"]
    assert status(lambda: api.create(resource.mirror_of(TOM, api.namespace))) == 409
    items, version = api.list()
    assert [i["metadata"]["name"] for i in items] == [NAME]
    assert version >= version_of(made)
    assert api.get(NAME)["metadata"]["uid"] == made["metadata"]["uid"]
    assert status(lambda: api.get("nobody")) == 404


def test_status_is_apart_from_spec(api: Api) -> None:
    made = api.create(resource.mirror_of(TOM, api.namespace))
    patch = {"status": {"phase": "Held"}, "spec": {"runPolicy": "Stopped"}}
    shown = api.patch(NAME, patch, version=version_of(made), status=True)
    assert (shown["status"]["phase"], shown["spec"]["runPolicy"], shown["metadata"]["generation"]) == (
        "Held",
        "Auto",
        1,
    )
    edited = api.patch(NAME, patch | {"status": {"phase": "x"}}, version=version_of(shown), status=False)
    assert (edited["status"]["phase"], edited["spec"]["runPolicy"]) == ("Held", "Stopped")
    assert edited["metadata"]["generation"] == 2
    assert version_of(made) < version_of(shown) < version_of(edited)
    # What is taken away comes back as its default; what changes nothing is no new version.
    back = api.patch(NAME, {"spec": {"runPolicy": None}}, version=version_of(edited), status=False)
    assert (back["spec"]["runPolicy"], back["metadata"]["generation"]) == ("Auto", 3)
    same = api.patch(NAME, {"status": {"phase": "Held"}}, version=version_of(back), status=True)
    assert version_of(same) == version_of(back)


def test_an_old_version_is_refused(api: Api) -> None:
    made = api.create(resource.mirror_of(TOM, api.namespace))
    patch = {"status": {"phase": "Held"}}
    api.patch(NAME, patch, version=version_of(made), status=True)
    assert status(lambda: api.patch(NAME, {"status": {}}, version=version_of(made), status=True)) == 409
    assert status(lambda: api.patch(NAME, {"spec": {}}, version=version_of(made), status=False)) == 409
    assert status(lambda: api.patch("nobody", patch, version=1, status=True)) == 404


def test_only_the_one_that_is_meant_is_deleted(api: Api) -> None:
    made = api.create(resource.mirror_of(TOM, api.namespace))
    assert status(lambda: api.delete(NAME, "another-uid")) == 409
    api.delete(NAME, made["metadata"]["uid"])
    assert status(lambda: api.delete(NAME, made["metadata"]["uid"])) == 404
    items, version = api.list()
    assert items == []
    assert version > version_of(made)
    again = api.create(resource.mirror_of(TOM, api.namespace))
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    assert status(lambda: api.patch(NAME, {"status": {}}, version=version_of(made), status=True)) == 409


def test_a_long_list_is_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.kubernetes.api.PAGE", 3)
    owners = [identity(f"acme-blog-u{number}") for number in range(8)]
    for owner in owners:
        api.create(resource.mirror_of(owner, api.namespace))
    items, version = api.list()
    assert {i["metadata"]["name"] for i in items} == {owner.kubernetes_name for owner in owners}
    assert version >= max(version_of(i) for i in items)
