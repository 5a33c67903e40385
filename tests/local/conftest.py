"""What the tests of the local AWS share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.local.world import World


@pytest.fixture
def world() -> World:
    """Return an ECS with a cluster and a task definition."""
    return World()


@pytest.fixture
def close_race() -> Iterator[None]:
    """Let threads take turns so often that a race which is there shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
