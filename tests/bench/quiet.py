"""B1: what an hour costs in which nothing happens but that users go on working."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.comparators import Culler, Naive
from tests.bench.frame import arguments, in_child, median, ratio, say, say_machine, say_table, spread
from tests.bench.world import Usage, Wakeful, World

HOUR_SECONDS = 3_600
LOOKS = {1_000: 18, 10_000: 8}
"""Each costs the same, so that so many are played and the rest of the hour is multiplied."""
FEW_LOOKS = 2

Contender = Callable[[World, Any], None]


def contenders(rows: int) -> dict[str, tuple[int, Contender]]:
    """Return who is measured, by name: for how many looks, and what runs until it is asked to stop."""
    often = LOOKS.get(rows, FEW_LOOKS)
    return {
        "editctl": (often, lambda world, stop: world.controller(stop).run()),
        "editctl, hints": (FEW_LOOKS, lambda world, stop: world.controller(stop, hints=True).run()),
        "NAIVE": (often, lambda world, stop: Naive(world).run(stop)),
        "CULLER": (FEW_LOOKS, lambda world, stop: Culler(world).run(stop)),
    }


class Looks(Wakeful):
    """Counts from the end of the first look, in which everybody gets to know the fleet, to that of the last."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world.virtual)
        self.requested = False
        self.usage: Usage | None = None
        self._world = world
        self._number = number
        self._begun = False

    def wait(self, seconds: float) -> None:
        """Wait, or ask to stop after the last look."""
        looks = self._world.dynamodb.looks
        if not self._begun and looks:
            self._begun = True
            self._world.restart()
        elif self._begun and looks >= self._number:
            self.requested = True
            self.usage = self._world.usage()
            return
        self.sleep(max(seconds, 0))


def measure(world: World, run: Contender, looks: int) -> Usage:
    """Return what so many looks take, with the waits between them."""
    with world.running():
        stop = Looks(world, looks)
        run(world, stop)
        if stop.usage is None:
            raise RuntimeError("it ended before it was asked to")
        return stop.usage


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__ or "").parse_args()
    say_machine(options.seed, options.runs)
    for rows in options.rows:
        world = World(options.seed)
        with world.running():
            world.populate(rows, rows // 10)
        found: dict[str, list[Usage]] = {}
        for _ in range(options.runs):
            # In turns, so that a busy machine is busy for all.
            for name, (looks, run) in contenders(rows).items():
                found.setdefault(name, []).append(in_child(partial(measure, world, run, looks)))
        report(rows, found)


def report(rows: int, found: dict[str, list[Usage]]) -> None:
    """Write the figures of one size."""
    say(f"\nB1, a quiet hour: {rows:,} session rows, {rows // 10:,} tasks\n")
    naive = _figures(found["NAIVE"])
    lines = [
        [
            name,
            f"{median(hourly(u, u.looks) for u in usages):,.0f}",
            *(spread(values, digits) for values, digits in zip(_figures(usages), (0, 0, 1), strict=True)),
            *(ratio(median(theirs), median(ours)) for theirs, ours in zip(naive, _figures(usages), strict=True)),
            f"{median(100 * sum(u.throttled.values()) / max(u.ecs_total, 1) for u in usages):.1f} %",
        ]
        for name, usages in found.items()
    ]
    head = ["", "looks", "read units", "ECS calls", "CPU s"]
    say_table([*head, "units: NAIVE is", "calls: NAIVE is", "CPU: NAIVE is", "throttled"], lines)


def _figures(usages: list[Usage]) -> tuple[list[float], list[float], list[float]]:
    return (
        [hourly(u, u.read_units) for u in usages],
        [hourly(u, u.ecs_total) for u in usages],
        [hourly(u, u.cpu) for u in usages],
    )


def hourly(usage: Usage, value: float) -> float:
    """Return what it would be in an hour."""
    return value * HOUR_SECONDS / usage.seconds


if __name__ == "__main__":
    main()
