"""`editctl run`: rounds without end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

import click

from controller import __version__, telemetry
from controller.cli.app import App, Problems, command
from controller.core.model import Millis
from controller.core.words import duration
from controller.errors import AwsError, ConfigError
from controller.reconcile.due import Due
from controller.reconcile.loop import Host

if TYPE_CHECKING:
    from controller.metrics import Health

PIPE_BYTES = 65_536


@command(
    "run",
    short_help="Keep doing what plan shows.",
    examples="""
        editctl run
        editctl run --poll 5s --log-format json
        editctl run --kubernetes --namespace editctl
    """,
)
@click.option(
    "--log-format", type=click.Choice(telemetry.FORMATS), default="text", show_default=True, help="Lines for whom."
)
@click.option("--kubernetes", is_flag=True, help="Follow EditContainer objects, and show containers as such.")
@click.option("--namespace", help="Of the objects; without it the pod's, or editctl.")
def run(app: App, log_format: str, kubernetes: bool, namespace: str | None) -> None:
    """Run rounds until SIGTERM or Ctrl-C: one line an outcome, one a minute at rest.

    Of several that run, one leads and the others wait. A round that fails is tried again; only settings and credentials
    that cannot work at the start end it, with exit code 1. At the start and every --resync it looks whether these are
    still the tables and the cluster that were seen first; if not (WrongWorld) it waits and does nothing.
    """
    from controller.metrics import Health, Metrics, MetricsServer

    if namespace and not kubernetes:
        raise click.UsageError("--namespace is of objects, which are followed with --kubernetes only.")
    assembly, config = app.assembly, app.loaded.config
    metrics, health = Metrics(assembly.policy, app.clock), Health(app.clock, config.poll, config.resync)
    assembly.metrics = metrics
    problems = [p for p in assembly.preflight(to_start=True) if not (isinstance(p, AwsError) and p.retryable)]
    if problems:
        raise Problems(problems)
    telemetry.configure(sys.stdout, log_format)
    leadership = assembly.leadership(f"{socket.gethostname()}/{os.getpid()}", _monotonic)
    address = config.metrics_address
    server = nullcontext() if address in ("", "off") else MetricsServer(address, metrics, health)
    with Signals() as stop, server:
        telemetry.event(
            "up",
            message=f"editctl {__version__}, cluster {config.cluster}, controller {config.controller_id}, "
            f"poll {duration(config.poll)}, idle timeout {duration(config.idle_timeout)}",
        )
        reconciler = assembly.reconciler()
        objects: AbstractContextManager[Host | None] = nullcontext()
        if kubernetes:
            objects = _kubernetes(app, reconciler.due, health, namespace)
        with assembly.listener(reconciler.due, leadership) as hints, objects as host:
            assembly.loop(
                reconciler, leadership, stop, health=health, hints=hints, host=host, say_time=app.screen.time
            ).run()
        telemetry.event("down", message="the step in hand is finished; what is open is on record")


@contextmanager
def _kubernetes(app: App, due: Due, health: Health, namespace: str | None) -> Iterator[Host]:
    """Follow the objects of a namespace for as long as the block lasts."""
    try:
        from controller.kubernetes.operator import hosting
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--kubernetes needs the package '{error.name}'",
            "it is installed with the extra 'kubernetes'",
            "pip install 'editctl[kubernetes]'",
        ) from error
    config = app.loaded.config
    follow = hosting(
        app.assembly.tables, due, app.clock, namespace=namespace, mirrors=config.mirror, resync=config.resync
    )
    with follow as (host, unready):
        health.wait_for(unready)
        yield host


def _monotonic() -> Millis:
    return time.monotonic_ns() // 1_000_000


class Signals:
    """SIGTERM and SIGINT ask to stop; a second one ends the process as it always does."""

    def __init__(self) -> None:
        self.requested = False
        # A signal handler may not touch a lock that the main thread may hold: a byte in a pipe wakes the wait.
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def __enter__(self) -> Signals:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # The pipe is left open: a thread that is still receiving may want to wake somebody.

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        self.wake()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def wake(self) -> None:
        """End the wait, from any thread; a full pipe has woken it already."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal comes or somebody wakes it."""
        if not self.requested and select.select([self._read], [], [], max(seconds, 0))[0]:
            os.read(self._read, PIPE_BYTES)
