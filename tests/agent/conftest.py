"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.web import CANARY, Web, use
from tests.agent.world import Container, copy_container, git, make_container


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Container:
    """Make the container that all others are copies of, which is quicker than making each anew."""
    return make_container(tmp_path_factory.mktemp("original"))


@pytest.fixture
def container(original: Container, tmp_path: Path) -> Container:
    """Return a container whose workspace is a clone of a remote with one commit on main."""
    return copy_container(original, tmp_path / "c")


@pytest.fixture
def web(container: Container) -> Iterator[Web]:
    """Serve the container's remote, and give the container what it needs to use it."""
    server = Web(container.root, CANARY)
    use(container, server, f"echo {CANARY}")
    git(container.remote.path, "config", "http.receivepack", "true")
    yield server
    server.close()
