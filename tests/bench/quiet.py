"""B1: what an hour costs in which nothing happens but that users go on working."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from controller.core.model import MINUTE, SECOND
from tests.bench.comparators import Culler, Naive
from tests.bench.frame import arguments, in_child, median, ratio, say, say_machine, say_table, spread
from tests.bench.world import Until, Usage, World

HOUR_SECONDS = 3_600
WINDOW_MINUTES = {1_000: 3, 10_000: 2}
"""Of an hour in which each look costs the same so many minutes are played; the rest is multiplied."""
SHORTEST_WINDOW = 1
SELDOM_MINUTES = 20
"""For those who look every ten minutes: two looks."""
SETTLING = 30 * SECOND
"""In which everybody gets to know the fleet, uncounted."""

Contender = Callable[[World, Any], None]


def contenders(rows: int) -> dict[str, tuple[int, Contender]]:
    """Return who is measured, by name: for how many minutes, and what runs until it is asked to stop."""
    often = WINDOW_MINUTES.get(rows, SHORTEST_WINDOW)
    return {
        "editctl": (often, lambda world, stop: world.controller(stop).run()),
        "editctl, poll 10m": (SELDOM_MINUTES, lambda world, stop: world.controller(stop, poll="10m").run()),
        "NAIVE": (often, lambda world, stop: Naive(world).run(stop)),
        "CULLER": (SELDOM_MINUTES, lambda world, stop: Culler(world).run(stop)),
    }


def measure(world: World, run: Contender, minutes: int) -> Usage:
    """Return what so many quiet minutes take."""
    with world.running():
        began = world.virtual.now
        world.virtual.at(began + SETTLING, world.restart)
        run(world, Until(world.virtual, began + SETTLING + minutes * MINUTE))
        return world.usage()


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
            for name, (minutes, run) in contenders(rows).items():
                found.setdefault(name, []).append(in_child(partial(measure, world, run, minutes)))
        report(rows, found)


def report(rows: int, found: dict[str, list[Usage]]) -> None:
    """Write the figures of one size."""
    say(f"\nB1, a quiet hour: {rows:,} session rows, {rows // 10:,} tasks\n")
    naive = _figures(found["NAIVE"])
    lines = [
        [
            name,
            f"{median(hourly(u, u.looks) for u in usages):,.0f}",
            *(spread(values, 0) for values in _figures(usages)),
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
