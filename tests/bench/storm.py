"""B3: a thousand new users within a second. How long until each has a task, against what the quota allows at best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.core.model import MINUTE, SECOND
from tests.bench.comparators import Naive
from tests.bench.frame import arguments, in_child, median, percentile, say, say_machine, say_table, spread
from tests.bench.quotas import FARGATE_RUN_TASK
from tests.bench.world import Until, World, nth_identity

USERS = 1_000
LONGEST = 15 * MINUTE
AFTERWARDS = MINUTE
"""After the last start: what was started twice shows by then."""


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of it."""

    makespan: float
    """Seconds until the last user had a task."""
    waits: list[float]
    attempts: int
    throttled: int
    reads_throttled: int
    duplicates: int
    unserved: int
    cpu: float
    looks: int


class _UntilServed(Until):
    """Asks to stop a while after everybody was served."""

    def __init__(self, world: World, users: set[str]) -> None:
        super().__init__(world.virtual, world.virtual.now + LONGEST)
        self._world = world
        self._users = users
        self._check()

    def _check(self) -> None:
        if self._users <= {event.subject for event in self._world.wire.events}:
            self._end = self._world.virtual.now + AFTERWARDS
            self._world.virtual.at(self._end, self._ask)
        else:
            self._world.virtual.at(self._world.virtual.now + SECOND, self._check)


def play(rows: int, users: int, seed: int, run: Callable[[World, Any], None], *, charge_cpu: bool = True) -> Storm:
    """Let the storm come over a fleet that somebody looks after."""
    world = World(seed, charge_cpu=charge_cpu)
    with world.running():
        world.populate(rows, rows // 10)
        began = world.virtual.now + 30 * SECOND + world.random.randrange(10 * SECOND)
        opened = {nth_identity(rows + n): began + world.random.randrange(SECOND) for n in range(users)}
        for owner, at in opened.items():
            world.virtual.at(at, partial(world.open, owner))
        world.virtual.at(began, world.restart)
        run(world, _UntilServed(world, {owner.container_id for owner in opened}))
        usage = world.usage()
    served = {event.subject: event.at for event in reversed(world.wire.events) if event.operation == "RunTask"}
    waits = [(served[o.container_id] - at) / SECOND for o, at in opened.items() if o.container_id in served]
    launched = Counter(event.subject for event in world.wire.events if event.operation == "RunTask")
    return Storm(
        makespan=(max(served.values()) - began) / SECOND if served else 0.0,
        waits=waits,
        attempts=usage.ecs_calls.get("RunTask", 0),
        throttled=usage.throttled.get("RunTask", 0),
        reads_throttled=sum(n for operation, n in usage.throttled.items() if operation != "RunTask"),
        duplicates=sum(launched.values()) - len(launched),
        unserved=users - len(waits),
        cpu=usage.cpu,
        looks=usage.looks,
    )


def main() -> None:
    parser = arguments(__doc__ or "", runs=3, rows=[1_000])
    parser.add_argument("--users", type=int, default=USERS)
    options = parser.parse_args()
    say_machine(options.seed, options.runs)
    contenders: dict[str, Callable[[World, Any], None]] = {
        "editctl, hints": lambda world, stop: world.controller(stop, hints=True).run(),
        "editctl": lambda world, stop: world.controller(stop).run(),
        "NAIVE": lambda world, stop: Naive(world).run(stop),
    }
    for rows in options.rows:
        found: dict[str, list[Storm]] = {}
        for number in range(options.runs):
            for name, run in contenders.items():
                found.setdefault(name, []).append(
                    in_child(partial(play, rows, options.users, options.seed + number, run))
                )
        report(rows, options.users, found)


def report(rows: int, users: int, found: dict[str, list[Storm]]) -> None:
    """Write the figures of one size."""
    floor = FARGATE_RUN_TASK.floor(users)
    say(f"\nB3, {users:,} new users in 1 s, beside {rows:,} rows and {rows // 10:,} tasks; at least {floor:.0f} s\n")
    lines = [
        [
            name,
            spread([s.makespan for s in storms], 0),
            spread([s.makespan / floor for s in storms]),
            f"{median([percentile(s.waits, 0.5) for s in storms]):.0f}",
            f"{median([100 * s.throttled / max(s.attempts, 1) for s in storms]):.1f} %",
            f"{median([s.reads_throttled for s in storms]):.0f}",
            spread([float(s.duplicates) for s in storms], 0),
            f"{max(s.unserved for s in storms)}",
            f"{median([s.looks for s in storms]):.0f}",
            spread([s.cpu for s in storms], 0),
        ]
        for name, storms in found.items()
    ]
    head = ["", "makespan s", "of floor", "median wait s", "RunTask throttled", "reads throttled", "duplicates"]
    say_table([*head, "unserved", "looks", "CPU s"], lines)


if __name__ == "__main__":
    main()
