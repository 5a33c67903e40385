"""`editctl demo`: the whole story on this machine."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from controller.assembly import Assembly, wall_clock
from controller.cli.app import ERROR, FINE, App, command
from controller.cli.screen import say
from controller.cli.story.child import REGION, environment_for
from controller.cli.story.scenes import JOHN_WEBSITE, Story
from controller.cli.story.stage import Stage
from controller.cli.story.teller import Teller
from controller.cli.story.traffic import Traffic
from controller.config import Config
from controller.core.model import Millis
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.local.server import LocalEndpoint

SETTINGS: Mapping[str, str] = {
    "poll": "1s",
    "idle_timeout": "10s",
    # Any free port: the usual one may be taken, by another demo or by a controller of the user's.
    "metrics_address": "127.0.0.1:0",
    "subnets": "subnet-local",
    "security_groups": "sg-local",
}
"""What differs from the defaults: a minute is to be enough, and nothing is to leave this machine."""
TOLD = ("poll", "idle_timeout")
"""Those that the reader has to know."""
INTERRUPTED = 128
"""Plus the number of the signal, as shells have it."""


@command(
    "demo",
    settings=False,
    short_help="The whole story on this machine.",
    examples="""
        editctl demo
        editctl demo --keep
        editctl demo --fast > story.txt
    """,
)
@click.option("--fast", is_flag=True, help="Do not wait for the reader.")
@click.option("--keep", is_flag=True, help="Stay up afterwards, to look around, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the local AWS; without it any free one.")
def demo(app: App, fast: bool, keep: bool, port: int) -> int:
    """Tell the story of a few containers in a minute, with AWS on this machine and a real controller.

    It needs no AWS account and no network, uses none of your AWS settings, and leaves nothing behind. Each scene checks
    what it says against what ECS and the tables really hold.

    Exit code 0: all came out as told. 1: something did not. 130: you ended it before.
    """
    _give_a_mouth()
    teller = Teller(app.screen, (lambda seconds: None) if fast else app.wait)
    try:
        with _interruptible():
            _perform(app, teller, keep=keep, port=port)
            teller.headline("", *_farewell(keep=keep))
        return FINE
    except _Interrupted as ended:
        with contextlib.suppress(BrokenPipeError):
            say("interrupted; everything that the demo started is stopped")
        return INTERRUPTED + ended.number
    except BrokenPipeError:
        # The reader has gone, `| head` for example: there is nobody to tell it to.
        _fall_silent()
        return ERROR
    finally:
        # At its end the interpreter would look through all that moto has loaded: most of the time that Ctrl-C takes.
        gc.freeze()


def _perform(app: App, teller: Teller, *, keep: bool, port: int) -> None:
    clock, traffic = _Clock(), Traffic()
    with ExitStack() as left:
        left.callback(teller.clear)
        teller.progress("AWS is loaded")
        endpoint = _endpoint(port, clock, traffic)
        left.callback(endpoint.close)
        environment = environment_for(endpoint.url)
        left.enter_context(_in_environment(environment))
        endpoint.start().warm_up()
        assembly = Assembly(Config.model_validate(SETTINGS), clock=clock, wait=app.wait, local=True)
        assembly.create_tables()
        flags = [f"{_flag(name)}={value}" for name, value in SETTINGS.items()]
        stage = Stage(endpoint.ecs, traffic, assembly, environment, flags, clock.earlier, clock)
        left.callback(stage.close)
        # Runs first: from here on nothing may come between.
        left.callback(_hear_no_signals)
        stage.start_controller()
        teller.headline(*_introduction(endpoint.url, stage.controller.pid))
        Story(stage, teller).play()
        if keep:
            _stay(stage, teller, endpoint.url)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _endpoint(port: int, clock: Callable[[], Millis], traffic: Traffic) -> LocalEndpoint:
    try:
        from controller.local.ecs import Timings
        from controller.local.server import LocalEndpoint
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs the package '{error.name}'",
            "it is installed with the extra 'local'",
            "pip install 'editctl[local]', or: make demo",
        ) from error
    return LocalEndpoint(port, clock, Timings.fast(), on_request=traffic)


class _Clock:
    """This machine's time, and within `earlier`, for the thread that is in it alone, a time before."""

    def __init__(self) -> None:
        self._here = threading.local()

    def __call__(self) -> Millis:
        back: Millis = getattr(self._here, "back", 0)
        return wall_clock() - back

    @contextmanager
    def earlier(self, by: Millis) -> Iterator[None]:
        """Let it have been so long ago."""
        self._here.back = by
        try:
            yield
        finally:
            self._here.back = 0


@contextmanager
def _in_environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    _set_environment(wanted)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


# What it says before and after


def _introduction(url: str, pid: int) -> list[str]:
    settings = " ".join(f"{_flag(name)} {SETTINGS[name]}" for name in TOLD)
    what = "editctl keeps one container running for each person who edits a web project by chat, and stops it when"
    return [
        f"{what} nobody needs it any more. This is its story, in about a minute.",
        "",
        f"AWS is on this machine, at {url}: ECS, DynamoDB and SQS in memory, gone afterwards.",
        f"The controller is process {pid}: editctl run {settings}",
    ]


def _farewell(*, keep: bool) -> list[str]:
    return [
        "Nothing of it is left running.",
        *([] if keep else [f"To look around at the end of the story: {_editctl()} demo --keep"]),
        f"To try it by hand: {_editctl()} local",
    ]


def _editctl() -> str:
    return "editctl" if shutil.which("editctl") else ".venv/bin/editctl"


def _stay(stage: Stage, teller: Teller, url: str) -> None:
    teller.headline(
        "",
        "All this stays up until Ctrl-C, the controller too. In another terminal:",
        "",
        f"  export AWS_ENDPOINT_URL={url} AWS_REGION={REGION}",
        f"  export EDITCTL_IDLE_TIMEOUT={SETTINGS['idle_timeout']}",
        f"  {_editctl()} status",
        f"  {_editctl()} explain {JOHN_WEBSITE.container_id}",
        f"  {_editctl()} session open s1 --client acme --project blog --user tom",
        "",
        "John writes no more, either: his containers are idle in about a minute. What the controller does:",
        "",
    )
    teller.cast(("",) * 2)
    told = len(stage.events)

    def show() -> None:
        nonlocal told
        for event in stage.events[told:]:
            told += 1
            teller.event(event)

    with contextlib.suppress(_Interrupted):
        stage.until("Ctrl-C", lambda: False, None, show)


# How it ends


class _Interrupted(KeyboardInterrupt):
    """A signal asked the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn what ends a program into an exception, so that the demo takes down what it put up."""

    def end(number: int, _: FrameType | None) -> None:
        raise _Interrupted(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in before.items():
            # Who starts it with nohup wants no end with the terminal.
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _hear_no_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _give_a_mouth() -> None:
    """Let a closed standard output or error be one that nobody reads: so much stands on there being one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it is for good


def _fall_silent() -> None:
    """Let the interpreter find nothing to complain of when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        # One that is no file cannot break, either.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
