"""B5: what a cold start takes on a fleet that is at rest: one look at everything, after which nothing is to be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil

from controller.core.model import SECOND
from tests.bench.comparators import Naive
from tests.bench.dynamodb import scan_pages
from tests.bench.frame import (
    arguments,
    in_child,
    median,
    peak_memory,
    ratio,
    say,
    say_machine,
    say_table,
    spread,
)
from tests.bench.world import AfterOneTurn, Usage, World

TASKS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class Boot:
    """One cold start."""

    usage: Usage
    megabytes: float
    """By which the process has grown at its largest."""
    lease_gap: float
    """Seconds from when the lease was taken to when it was first renewed, or to the end."""
    changes: int


def controller(world: World) -> int:
    """Run the first round of a fresh controller; return how many writes to records or tasks it made."""
    world.controller(AfterOneTurn()).run()
    return world.dynamodb.meter.calls["UpdateItem"] + len(world.wire.events)


def naive(world: World) -> int:
    """Run the first tick of the naive loop."""
    Naive(world).tick()
    return world.dynamodb.meter.calls["UpdateItem"] + len(world.wire.events)


def measure(world: World, start: Callable[[World], int]) -> Boot:
    """Return what it takes."""
    with world.running():
        world.virtual.sleep(60)
        world.dynamodb.lease_writes.clear()
        before = peak_memory()
        world.restart()
        changes = start(world)
        writes = world.dynamodb.lease_writes
        gap = (writes[1] - writes[0]) / SECOND if len(writes) > 1 else 0.0
        return Boot(world.usage(), peak_memory() - before, gap, changes)


def floor(world: World, tasks: int) -> int:
    """Return the calls that a look at everything takes at least."""
    pages = scan_pages(world.dynamodb.sessions) + scan_pages(world.dynamodb.records)
    return pages + 2 * ceil(tasks / TASKS_A_PAGE)


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    say_machine(options.seed, options.runs)
    for rows in options.rows:
        world = World(options.seed)
        with world.running():
            world.populate(rows, rows)
        found: dict[str, list[Boot]] = {"editctl": [], "NAIVE": []}
        for _ in range(options.runs):
            found["editctl"].append(in_child(partial(measure, world, controller)))
            found["NAIVE"].append(in_child(partial(measure, world, naive)))
        report(rows, floor(world, rows), found)


def report(rows: int, least_calls: int, found: dict[str, list[Boot]]) -> None:
    """Write the figures of one size."""
    say(f"\nB5, a cold start: {rows:,} session rows, {rows:,} tasks; at least {least_calls:,} calls\n")
    ours = median([b.usage.cpu for b in found["editctl"]])
    lines = []
    for name, boots in found.items():
        usages = [b.usage for b in boots]
        calls = median([u.ecs_total + u.dynamodb_calls for u in usages])
        lines.append(
            [
                name,
                spread([u.cpu for u in usages]),
                ratio(median([u.cpu for u in usages]), ours),
                f"{calls:,.0f} ({calls / least_calls:.2f})",
                f"{median([sum(u.throttled.values()) for u in usages]):,.0f}",
                f"{median([u.read_units for u in usages]):,.0f}",
                spread([u.seconds for u in usages], 1),
                f"{median([b.megabytes for b in boots]):,.0f}",
                spread([u.longest_stretch for u in usages]),
                spread([b.lease_gap for b in boots], 1) if name == "editctl" else "-",
                f"{median([b.changes for b in boots]):.0f}",
            ]
        )
    head = ["", "CPU s", "/ours", "calls (of floor)", "throttled", "read units", "seconds", "MB more"]
    say_table([*head, "longest stretch s", "lease gap s", "writes"], lines)


if __name__ == "__main__":
    main()
