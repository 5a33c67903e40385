"""B2: how long after a row appears RunTask is sent, and how long after a container's idle time ends StopTask is.

Rows appear and sessions end one by one, at times that do not depend on what the controller does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.core.model import MINUTE, SECOND, Millis
from tests.bench.comparators import Culler, Naive
from tests.bench.frame import arguments, in_child, percentile, ratio, say, say_machine, say_table
from tests.bench.world import Until, World, nth_identity

STARTS = 60
STOPS = 16
"""Few enough for the stop budget of a small fleet: ten in five minutes."""
WINDOWS: dict[int, Millis] = {1_000: 15 * MINUTE}
SHORT_WINDOW: Millis = 4 * MINUTE
CULLER_WINDOW: Millis = 60 * MINUTE
AFTERWARDS: Millis = 90 * SECOND
"""So that what happened last is answered, too …"""
ROWS_A_SECOND = 1_000
"""… by somebody who needs longer for a look at so many rows."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from what happened to what was done about it, and how much had nothing done about it."""

    starts: list[float]
    stops: list[float]
    missed: int


def play(rows: int, seed: int, window: Millis, run: Callable[[World, Any], None]) -> Latencies:
    """Let the events happen in a fleet that somebody looks after."""
    world = World(seed)
    with world.running():
        world.populate(rows, rows // 10)
        began = world.virtual.now + MINUTE
        opened = {nth_identity(rows + n): began + world.random.randrange(window) for n in range(STARTS)}
        due = {owner: began + world.random.randrange(window) for owner in world.random.sample(world.active, STOPS)}
        for owner, at in opened.items():
            world.virtual.at(at, partial(world.open, owner))
        quiet = world.policy.idle_timeout + world.policy.clock_slack
        for owner, at in due.items():
            world.release(owner, at - quiet)
        run(world, Until(world.virtual, began + window + AFTERWARDS + 3 * SECOND * rows // ROWS_A_SECOND))
        done = {}
        for event in reversed(world.wire.events):
            done[event.subject] = event.at
    starts = [(done[o.container_id] - at) / SECOND for o, at in opened.items() if o.container_id in done]
    stops = [(done[world.arn_of(o)] - at) / SECOND for o, at in due.items() if world.arn_of(o) in done]
    return Latencies(starts, stops, STARTS + STOPS - len(starts) - len(stops))


def main() -> None:
    parser = arguments(__doc__ or "", runs=1)
    options = parser.parse_args()
    say_machine(options.seed, options.runs)
    for rows in options.rows:
        window = WINDOWS.get(rows, SHORT_WINDOW)
        contenders: dict[str, tuple[Millis, Callable[[World, Any], None]]] = {
            "editctl, hints": (window, lambda world, stop: world.controller(stop, hints=True).run()),
            "editctl": (window, lambda world, stop: world.controller(stop).run()),
            "NAIVE": (window, lambda world, stop: Naive(world).run(stop)),
            "CULLER": (CULLER_WINDOW, lambda world, stop: Culler(world).run(stop)),
        }
        found = {name: Latencies([], [], 0) for name in contenders}
        for number in range(options.runs):
            for name, (length, run) in contenders.items():
                one, so_far = in_child(partial(play, rows, options.seed + number, length, run)), found[name]
                found[name] = Latencies(
                    so_far.starts + one.starts, so_far.stops + one.stops, so_far.missed + one.missed
                )
        report(rows, found)


def report(rows: int, found: dict[str, Latencies]) -> None:
    """Write the figures of one size."""
    say(f"\nB2, latency in seconds: {rows:,} session rows, {rows // 10:,} tasks\n")
    for what, of in (("row appears → RunTask", "starts"), ("idle time ends → StopTask", "stops")):
        lines = []
        ours = getattr(found["editctl, hints"], of)
        for name, latencies in found.items():
            values = getattr(latencies, of)
            if not values:
                continue
            p50, p99, mean = percentile(values, 0.5), percentile(values, 0.99), sum(values) / len(values)
            lines.append(
                [
                    name,
                    f"{len(values)}",
                    f"{p50:.2f}",
                    f"{p99:.2f}",
                    f"{mean:.2f}",
                    ratio(mean, sum(ours) / len(ours)),
                ]
            )
        say_table([what, "n", "p50", "p99", "mean", "mean /ours"], lines)
    for name, latencies in found.items():
        say(f"{name}: {latencies.missed} without an answer" if latencies.starts else f"{name} starts nobody")


if __name__ == "__main__":
    main()
