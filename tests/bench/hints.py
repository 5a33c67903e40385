"""From the message in the hint queue to RunTask, in real time: `editctl local`, `editctl run` and who opens sessions.

Each is a process of its own on this machine. A session's row is written, and its message is in the queue when that call
returns: AWS's own delay (stream, pipe, queue) is not in the figures.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import boto3

from controller.assembly import Assembly, wall_clock
from controller.config import Config
from controller.core.model import SECOND, Millis
from tests.bench.frame import arguments, in_child, percentile, ratio, say, say_machine, say_table
from tests.bench.world import nth_identity

OPENED_IN = 60
"""Seconds in which sessions are opened, one by one."""
SERVED_WITHIN = 60
SETTINGS = {"EDITCTL_SUBNETS": "subnet-1", "EDITCTL_SECURITY_GROUPS": "sg-1", "EDITCTL_METRICS_ADDRESS": "off"}
EDITCTL = (sys.executable, "-c", "from controller.cli.main import main; main()")


@dataclass(frozen=True, slots=True)
class Served:
    """Seconds from message to RunTask of each who was served, and how many were not."""

    waits: list[float]
    unserved: int


@contextmanager
def running(command: str, environment: Mapping[str, str], until: str) -> Iterator[str]:
    """Run a command until the end of the block; give what it wrote up to a line that has this in it."""
    process = subprocess.Popen(
        [*EDITCTL, *command.split()], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if until in line:
            break
    # What it says from here on must not fill the pipe.
    drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    try:
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        drain.wait()


def play(seed: int, rows: int, *, hints: bool, lose_queue: bool = False) -> Served:
    """Open as many sessions as told, and return how long each waited."""
    chance = random.Random(seed)
    nobody = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
    with running("local --port 0", {}, "editctl plan") as said:
        exported = dict(re.findall(r"export (\w+)=(\S+)", said))
        settings = {**SETTINGS, **nobody, "AWS_ENDPOINT_URL": exported["AWS_ENDPOINT_URL"]}
        queue = exported["EDITCTL_HINT_QUEUE_URL"]
        with mock.patch.dict(os.environ, settings):
            assembly = Assembly(Config(subnets=("subnet-1",), security_groups=("sg-1",)), local=True)
            assembly.create_tables()
            watched = {"EDITCTL_HINT_QUEUE_URL": queue} if hints else {}
            with running("run", {**settings, **watched}, "hints" if hints else "leads"):
                time.sleep(1)
                opened = _open(assembly, chance, rows, queue if lose_queue else None)
                return _served(assembly, opened)


def _open(assembly: Assembly, chance: random.Random, rows: int, lose: str | None) -> dict[str, Millis]:
    registry, opened = assembly.registry(), {}
    began = time.monotonic()
    times = sorted(chance.uniform(0, OPENED_IN) for _ in range(rows))
    for number, at in enumerate(times):
        time.sleep(max(began + at - time.monotonic(), 0))
        owner = nth_identity(number)
        registry.open(f"s{number}", owner)
        opened[owner.container_id] = wall_clock()
        if lose and number == rows // 2:
            boto3.client("sqs", region_name="us-east-1").delete_queue(QueueUrl=lose)
    return opened


def _served(assembly: Assembly, opened: Mapping[str, Millis]) -> Served:
    """Wait until all are served, or for so long; a record's launch is written just before RunTask is sent."""
    reader, end = assembly.table_reader(), time.monotonic() + SERVED_WITHIN
    while True:
        launched = {r.container_id: r.launch.requested_at for r in reader.read_records().records if r.launch}
        if opened.keys() <= launched.keys() or time.monotonic() > end:
            waits = [(launched[i] - at) / SECOND for i, at in opened.items() if i in launched]
            return Served([max(w, 0.0) for w in waits], len(opened) - len(waits))
        time.sleep(0.5)


def main() -> None:
    options = arguments(__doc__ or "", runs=1, rows=[200]).parse_args()
    say_machine(options.seed, options.runs)
    contenders: dict[str, dict[str, Any]] = {
        "hints": {"hints": True},
        "polling every 10 s": {"hints": False},
        "hints, the queue is deleted half-way": {"hints": True, "lose_queue": True},
    }
    for rows in options.rows:
        found = {name: in_child(partial(play, options.seed, rows, **more)) for name, more in contenders.items()}
        say(f"\n{rows} sessions opened one by one in {OPENED_IN} s: seconds from message to RunTask\n")
        ours = found["hints"].waits
        say_table(
            ["", "p50", "p99", "most", "mean", "mean /hints", "unserved"],
            [
                [
                    name,
                    *(f"{percentile(served.waits, share):.2f}" for share in (0.5, 0.99)),
                    f"{max(served.waits):.2f}",
                    f"{sum(served.waits) / len(served.waits):.2f}",
                    ratio(sum(served.waits) / len(served.waits), sum(ours) / len(ours)),
                    str(served.unserved),
                ]
                for name, served in found.items()
            ],
        )


if __name__ == "__main__":
    main()
