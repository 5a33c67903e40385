"""The compiled service, and a world for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.hermes import toolchain
from tests.hermes.driver import Driver
from tests.hermes.world import Aws, World


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Return the service, compiled strictly, in a Node process."""
    folder = tmp_path_factory.mktemp("hermes")
    try:
        node = toolchain.node()
        driver = Driver(node, toolchain.compiled(folder / "service"), folder / "errors.txt")
    except toolchain.Missing as missing:
        if toolchain.MUST_RUN:
            pytest.fail(str(missing))
        _say(request.config, str(missing))
        pytest.skip(str(missing))
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def aws(clean_process: object) -> Iterator[Aws]:
    """Return a local AWS."""
    found = Aws()
    with found.endpoint:
        yield found


@pytest.fixture
def world(aws: Aws) -> Iterator[World]:
    """Return an installation with empty tables and no task."""
    yield World(aws)
    aws.endpoint.ecs.faults.clear()


@pytest.fixture
def hermes(program: Driver, world: World) -> Driver:
    """Return the service, connected to the world."""
    program.connect(world.aws.endpoint.url, world.rows.names, world.clock)
    return program


def _say(config: pytest.Config, sentence: str) -> None:
    """Print past pytest's capture, since nobody sees the reason of a skipped test."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        assert sys.__stderr__ is not None
        sys.__stderr__.write(f"\n{sentence}\n")
        sys.__stderr__.flush()
