"""A control plane for each test process, and an empty namespace for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from controller.kubernetes import resource
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.controlplane.programs import ON_CI, Missing, find
from tests.kubernetes.objects import path

_NAMESPACES = itertools.count(1)

ASKED = 100
"""Times that kubectl asks, a tenth of a second each."""


@pytest.fixture(scope="session")
def control_plane(clean_process: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return an API server that knows nothing of us yet. Without its programs: skipped, on CI failed."""
    try:
        programs = find()
    except Missing as missing:
        if ON_CI:
            pytest.fail(f"on CI these tests may not be skipped: {missing}", pytrace=False)
        pytest.skip(str(missing))
    made = ControlPlane(programs, tmp_path_factory.mktemp("kubernetes") / "control-plane")
    yield made
    made.close()


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> str:
    """Return the name of our resource's definition, which the server has accepted and serves."""
    name = str(resource.definition()["metadata"]["name"])
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=resource.definition())
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
    # The list of what is served comes a little later, and kubectl keeps the one it has: this asks for it anew.
    for _ in range(ASKED):
        if name in control_plane.kubectl("api-resources", f"--api-group={resource.GROUP}", "-o", "name").stdout:
            return name
    pytest.fail(f"the server has accepted {name}, and does not list it")


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Callable[..., CompletedProcess[str]]:
    """Return the real kubectl, run as the administrator."""
    return control_plane.kubectl


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """Return the name of an empty namespace; what is in it goes with it."""
    name = f"t{os.getpid()}-{next(_NAMESPACES)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    made = control_plane.request("POST", "/api/v1/namespaces", body)
    assert made.status == 201, made.message
    yield name
    # There is no controller that would empty it. Without the definition the first is a 404.
    control_plane.request("DELETE", path(name))
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}")
