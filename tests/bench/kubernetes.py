"""Many EditContainers on a real API server: what our watch costs beside a bare kopf operator with one handler.

Each contender is a process of its own that sees all objects once: from its start until the last one came.
"""

from __future__ import annotations

import asyncio
import logging
import resource as usage
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kopf

from controller.assembly import wall_clock
from controller.kubernetes import resource
from controller.kubernetes.api import Api
from controller.kubernetes.objects import Objects
from controller.kubernetes.operator import Watch
from controller.kubernetes.publisher import Publisher
from controller.reconcile.due import Due
from tests.bench.frame import arguments, in_child, median, say, say_machine, say_table, spread
from tests.bench.world import nth_identity
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.controlplane.programs import Missing, find
from tests.kubernetes.objects import path

NAMESPACE = "bench"
AT_MOST = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What it took to see all objects."""

    seconds: float
    cpu: float
    megabytes: float


def _login(control_plane: ControlPlane) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(
        server=control_plane.url, ca_data=control_plane.certificate, token=control_plane.admin.token
    )


def _measured(start: Callable[[Callable[[], None]], Callable[[], None]], objects: int) -> Seen:
    """Start, wait until so many were counted, end; a warm-up of imports is behind us."""
    count, done = [0], threading.Event()

    def one() -> None:
        count[0] += 1
        if count[0] >= objects:
            done.set()

    before, cpu, began = _memory(), time.process_time(), time.monotonic()
    close = start(one)
    if not done.wait(AT_MOST):
        raise SystemExit(f"only {count[0]} of {objects} objects were seen")
    found = Seen(time.monotonic() - began, time.process_time() - cpu, _memory() - before)
    close()
    return found


def _memory() -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return usage.getrusage(usage.RUSAGE_SELF).ru_maxrss / 1024


def bare(control_plane: ControlPlane, objects: int) -> Seen:
    """Run kopf with one handler that does nothing, in kopf's own thread: one that is no coroutine costs more."""
    stop = threading.Event()

    def start(one: Callable[[], None]) -> Callable[[], None]:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(lambda **_: _login(control_plane))

        @kopf.on.event(resource.GROUP, resource.VERSION, resource.PLURAL, registry=registry)
        async def seen(**_: Any) -> None:
            one()

        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        operate = kopf.operator(
            registry=registry, settings=settings, namespaces=[NAMESPACE], standalone=True, stop_flag=stop
        )
        threading.Thread(target=lambda: asyncio.run(operate), daemon=True).start()
        return stop.set

    return _measured(start, objects)


def ours(control_plane: ControlPlane, objects: int) -> Seen:
    """Run our watch, with the list beside it and everything that is remembered of the objects."""

    def start(one: Callable[[], None]) -> Callable[[], None]:
        known, due = Objects(), Due()
        api = Api(lambda: _login(control_plane), NAMESPACE, wall_clock)
        publisher = Publisher(api, known, wall_clock, lambda _: None)
        watch = Watch(known, publisher, due, lambda **_: _login(control_plane), NAMESPACE)
        take_in = watch.seen

        def counted(kind: str | None, body: dict[str, Any]) -> None:
            take_in(kind, body)
            one()

        watch.seen = counted  # type: ignore[method-assign]
        threading.Thread(target=publisher.run, daemon=True).start()
        watch.start()

        def close() -> None:
            publisher.close()
            watch.close()
            assert len(known) == objects

        return close

    return _measured(start, objects)


def _create(control_plane: ControlPlane, objects: int) -> None:
    def one(number: int) -> None:
        body = resource.mirror_of(nth_identity(number), NAMESPACE)
        body["metadata"] = {"name": f"object-{number:05d}"}
        answer = control_plane.request("POST", path(NAMESPACE), body)
        if answer.status != 201:
            raise SystemExit(answer.message)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(objects)))


def main() -> None:
    options = arguments(__doc__ or "", runs=3, rows=[2_000]).parse_args()
    try:
        programs = find()
    except Missing as missing:
        sys.exit(str(missing))
    logging.getLogger("kopf").setLevel(logging.ERROR)
    say_machine(options.seed, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        for number in options.rows:
            control_plane = ControlPlane(programs, Path(folder) / f"control-plane-{number}")
            try:
                control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=resource.definition())
                control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
                control_plane.kubectl("create", "namespace", NAMESPACE)
                _create(control_plane, number)
                found: dict[str, list[Seen]] = {"editctl": [], "bare on.event": []}
                for _ in range(options.runs):
                    found["editctl"].append(in_child(partial(ours, control_plane, number)))
                    found["bare on.event"].append(in_child(partial(bare, control_plane, number)))
            finally:
                control_plane.close()
            report(number, found)


def report(objects: int, found: dict[str, list[Seen]]) -> None:
    """Write the figures."""
    say(f"\nB10, {objects:,} objects seen from nothing\n")
    least = median([s.seconds for s in found["bare on.event"]])
    say_table(
        ["", "objects/s", "of bare", "CPU s", "kB an object"],
        [
            [
                name,
                f"{objects / median([s.seconds for s in seen]):,.0f}",
                f"{100 * least / median([s.seconds for s in seen]):.0f} %",
                spread([s.cpu for s in seen]),
                spread([1024 * s.megabytes / objects for s in seen], 1),
            ]
            for name, seen in found.items()
        ],
    )


if __name__ == "__main__":
    main()
