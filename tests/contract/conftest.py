"""The engines as fixtures, and how a known difference is held against its engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from controller.local.server import LocalEndpoint
from tests.contract import engines
from tests.contract.differences import DIFFERENCES
from tests.contract.engines import HOST, Engine, Ministack, new_account
from tests.fakes.clock import FakeClock
from tests.local.world import TIMINGS

# What a rule that is not kept looks like. Anything else is a mistake of the test, and no difference.
BROKEN = (AssertionError, ClientError, pytest.fail.Exception)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each test that takes an engine on the `ENGINES` of its module."""
    if "engine_name" in metafunc.fixturenames:
        metafunc.parametrize("engine_name", metafunc.module.ENGINES, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a rule with a known difference pass while it is broken, and fail when it is kept."""
    line = difference_of(pyfuncitem)
    if line is None:
        return (yield)
    try:
        yield
    except BROKEN:
        return True
    raise pytest.fail.Exception(
        f"{line[0]} keeps the rule {line[1]} now: remove its line from tests/contract/differences.py\n"
        f"The line says: {DIFFERENCES[line]}",
        pytrace=False,
    )


def difference_of(item: pytest.Function) -> tuple[str, str] | None:
    """Return the line of DIFFERENCES that speaks of a test, None when it has to be kept."""
    engine = item.callspec.params.get("engine_name") if hasattr(item, "callspec") else None
    rule = item.originalname.removeprefix("test_")
    cases = [part for part in item.callspec.id.split("-") if part != engine] if engine else []
    for name in (f"{rule}[{'-'.join(cases)}]", rule):
        if (engine, name) in DIFFERENCES:
            return str(engine), name
    return None


@pytest.fixture(scope="session")
def ministack(clean_process: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """Return a ministack for the tests of this process; without one they are skipped, in CI they fail."""
    if not engines.PYTHON.exists():
        if engines.IN_CI:
            pytest.fail(f"in CI no engine may be missing: {engines.MISSING}")
        pytest.skip(engines.MISSING)
    running = Ministack(tmp_path_factory.mktemp("ministack"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def local(clock: FakeClock) -> Iterator[Engine]:
    """Return the local endpoint, empty, its ECS on the clock of the test."""
    with LocalEndpoint(clock=clock, timings=TIMINGS) as endpoint:
        yield Engine(
            "local", endpoint.url, endpoint.account, pass_time=lambda seconds: None if clock.step(seconds=seconds) else None
        )


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
