"""`editctl demo`: the whole story on this machine."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from controller.assembly import Assembly, wall_clock
from controller.cli.app import ERROR, FINE, App, command
from controller.cli.local import HINT_QUEUE, is_hint
from controller.cli.screen import say
from controller.cli.story.child import REGION, environment_for
from controller.cli.story.scenes import JOHN_WEBSITE, LOU_SITE, Story
from controller.cli.story.stage import Stage
from controller.cli.story.teller import Teller
from controller.cli.story.traffic import Traffic
from controller.cli.story.workshop import OLDEST_GIT, Workshop, why_not
from controller.config import Config
from controller.core.model import Millis
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.local.describe import LaunchedTask
    from controller.local.processes import Fitting, ProcessRunner
    from controller.local.server import LocalEndpoint

SETTINGS: Mapping[str, str] = {
    # How long an orphan waits for its second look; what is news comes by hints.
    "poll": "2s",
    "idle_timeout": "10s",
    # Any free port: the usual one may be taken, by another demo or by a controller of the user's.
    "metrics_address": "127.0.0.1:0",
    "subnets": "subnet-local",
    "security_groups": "sg-local",
}
"""What differs from the defaults: a minute is to be enough, and nothing is to leave this machine."""
TOLD = ("poll", "idle_timeout")
"""Those that the reader has to know."""
_HINT_COMES_AGAIN = 5
"""Seconds; those that a killed controller has received, too, are to be looked at within the story."""
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

    It needs no AWS account and no network, uses none of your AWS and git settings, and leaves nothing behind. Each
    scene checks what it says against what ECS, the tables and the repositories really hold. Without git, or where
    there is no Linux, tasks have no workspaces, and what is told of them is left out.

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
    lacking = why_not()
    with ExitStack() as left:
        left.callback(teller.clear)
        teller.progress("AWS is loaded")
        workshop = None if lacking else _workshop(left)
        runner = _runner(workshop, clock) if workshop else None
        if runner:
            left.callback(runner.close)
        endpoint = _endpoint(port, clock, traffic, runner)
        left.callback(endpoint.close)
        if runner:
            runner.drive(endpoint.ecs)
        environment = {**environment_for(endpoint.url), "EDITCTL_HINT_QUEUE_URL": endpoint.hint_queue_url or ""}
        left.enter_context(_in_environment(environment))
        endpoint.start().warm_up()
        settings = {**SETTINGS, **(workshop.settings if workshop else {})}
        assembly = Assembly(Config.model_validate(settings), clock=clock, wait=app.wait, local=True)
        assembly.create_tables()
        flags = [f"{_flag(name)}={value}" for name, value in settings.items()]
        stage = Stage(endpoint.ecs, traffic, assembly, environment, flags, clock.earlier, clock, workshop)
        left.callback(stage.close)
        # Runs first: from here on nothing may come between.
        left.callback(_hear_no_signals)
        stage.start_controller()
        teller.headline(*_introduction(endpoint.url, stage.controller.pid, workshop, lacking))
        Story(stage, teller).play()
        if keep:
            _stay(stage, teller, endpoint.url)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _workshop(left: ExitStack) -> Workshop:
    root = left.enter_context(tempfile.TemporaryDirectory(prefix="editctl-demo-", ignore_cleanup_errors=True))
    workshop = Workshop(Path(root).resolve())
    left.callback(workshop.close)
    return workshop


def _runner(workshop: Workshop, clock: Callable[[], Millis]) -> ProcessRunner:
    from controller.local.processes import Fitting, ProcessRunner

    def fit(task: LaunchedTask, directory: Path) -> Fitting:
        variables = next(c.environment for c in task.containers if c.essential)
        return Fitting(*workshop.command(variables, task.address or "", task.stop_timeout, directory))

    return ProcessRunner(workshop.tasks, fit, clock, temporary=workshop.root)


def _endpoint(port: int, clock: Callable[[], Millis], traffic: Traffic, runner: ProcessRunner | None) -> LocalEndpoint:
    try:
        from controller.local.ecs import Timings
        from controller.local.pipes import Pipe
        from controller.local.server import LocalEndpoint
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs the package '{error.name}'",
            "it is installed with the extra 'local'",
            "pip install 'editctl[local]', or: make demo",
        ) from error
    pipe = Pipe(HINT_QUEUE, is_hint, _HINT_COMES_AGAIN)
    return LocalEndpoint(port, clock, Timings.fast(), observer=runner, pipe=pipe, on_request=traffic)


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


def _introduction(url: str, pid: int, workshop: Workshop | None, lacking: str) -> list[str]:
    settings = " ".join(f"{_flag(name)} {SETTINGS[name]}" for name in TOLD)
    what = "editctl keeps one container running for each person who edits a web project by chat, and stops it when"
    return [
        f"{what} nobody needs it any more. This is its story, in about a minute.",
        "",
        f"AWS is on this machine, at {url}: ECS, DynamoDB and SQS in memory, gone afterwards.",
        *(_of_the_tasks(workshop) if workshop else _of_no_tasks(lacking)),
        f"The controller is process {pid}: editctl run {settings}",
        "What changes in the tables and in ECS wakes it, through a queue of hints.",
    ]


def _of_the_tasks(workshop: Workshop) -> list[str]:
    what = "Each task is a process here, with edit-agent and a workspace in it; the remote is a bare git repository."
    return [f"{what} All of it is in {workshop.root}, gone afterwards, too."]


def _of_no_tasks(lacking: str) -> list[str]:
    wanted = f"With git {'.'.join(map(str, OLDEST_GIT))} or newer, on Linux,"
    return [
        f"Tasks have no workspaces here: {lacking}. {wanted} the demo also shows how work is saved and comes back.",
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
    shop = stage.workshop
    teller.headline(
        "",
        "All this stays up until Ctrl-C, the controller too. In another terminal:",
        "",
        f"  export AWS_ENDPOINT_URL={url} AWS_REGION={REGION}",
        f"  export EDITCTL_IDLE_TIMEOUT={SETTINGS['idle_timeout']}",
        *(f"  export EDITCTL_{name.upper()}={value}" for name, value in (shop.settings if shop else {}).items()),
        f"  {_editctl()} status",
        f"  {_editctl()} explain {JOHN_WEBSITE.container_id}",
        f"  {_editctl()} session open s1 --client acme --project blog --user tom",
        *(_where_to_look(shop) if shop else ()),
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


def _where_to_look(workshop: Workshop) -> list[str]:
    return [
        f"  {_editctl()} explain {LOU_SITE.container_id}",
        f"  git -C {workshop.repository(LOU_SITE)} log --all --oneline",
        f"  ls {workshop.tasks}/*/workspace",
    ]


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
