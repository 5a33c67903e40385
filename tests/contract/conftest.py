"""The engines as fixtures, and how a known difference is held against its engine."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from controller.local.server import LocalEndpoint
from tests.contract import engines
from tests.contract.differences import line_of, still_differs
from tests.contract.engines import HOST, Engine, Ministack, new_account
from tests.fakes.clock import FakeClock
from tests.local.world import TIMINGS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each test that takes an engine on the `ENGINES` of its module."""
    if "engine_name" in metafunc.fixturenames:
        metafunc.parametrize("engine_name", metafunc.module.ENGINES)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a rule with a known difference pass while it is broken, and fail when it is kept."""
    line = _line_of(pyfuncitem)
    if line is None:
        return (yield)
    with still_differs(*line):
        yield
    return True


def _line_of(item: pytest.Function) -> tuple[str, str] | None:
    if not hasattr(item, "callspec") or "engine_name" not in item.callspec.params:
        return None
    engine = str(item.callspec.params["engine_name"])
    # The engine is the first or the last part of the id; what is left is the case.
    case = item.callspec.id.removeprefix(engine).removesuffix(engine).strip("-")
    return line_of(engine, item.originalname.removeprefix("test_"), case)


@pytest.fixture(scope="session")
def ministack(clean_process: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """Return a ministack for the tests of this process; without one they are skipped, in CI they fail."""
    if not engines.PYTHON.exists():
        engines.missing(in_ci=engines.IN_CI)
    running = Ministack(tmp_path_factory.mktemp("ministack"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def local(clock: FakeClock) -> Iterator[Engine]:
    """Return the local endpoint, empty, its ECS on the clock of the test."""

    def pass_time(seconds: float) -> None:
        clock.step(seconds=seconds)

    with LocalEndpoint(clock=clock, timings=TIMINGS) as endpoint:
        yield Engine("local", endpoint.url, endpoint.account, pass_time=pass_time)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """Return the URL of moto's own server, which has moto's ECS as it is."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()
    if server._server is not None:
        server._server.server_close()


@pytest.fixture(scope="module")
def moto_account(moto_url: str) -> Engine:
    """Return an account of moto's with a network, which takes half a second to make."""
    account = Engine("moto", moto_url, new_account())
    subnet = account.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    return Engine("moto", moto_url, account.account, subnet)


@pytest.fixture
def moto(moto_account: Engine) -> Engine:
    """Return moto, its ECS empty."""
    from moto.backends import get_backend

    for backend in get_backend("ecs")[moto_account.account].values():
        backend.reset()
    return moto_account


@pytest.fixture
def engine(engine_name: str, request: pytest.FixtureRequest) -> Engine:
    """Return the engine that a rule is tried on."""
    if engine_name == "ministack":
        return request.getfixturevalue("ministack").engine()  # type: ignore[no-any-return]
    found: Engine = request.getfixturevalue(engine_name)
    return found


@pytest.fixture
def close_race() -> Iterator[None]:
    """Let threads take turns so often that a race which is there shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
