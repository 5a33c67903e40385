"""What every benchmark has in common: its arguments, runs in fresh processes, medians with their spread, and tables."""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import platform
import resource
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

PACKAGES = ("boto3", "botocore")


def arguments(description: str, *, runs: int = 5, rows: Sequence[int] = (1_000, 10_000)) -> argparse.ArgumentParser:
    """Return the parser of the arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", type=int, nargs="+", default=list(rows), help="session rows, one size or several")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn by chance follows from it")
    parser.add_argument("--runs", type=int, default=runs, help="runs of which the median is shown")
    return parser


def say(text: str = "") -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_machine(seed: int, runs: int) -> None:
    """Write what a figure depends on that is not in the code."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    say(
        f"seed {seed}, {runs} runs; {cores} cores of {_processor()}, load {load:.1f}; "
        f"{platform.python_implementation()} {platform.python_version()}, {packages}; {platform.system()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


# Runs


def in_child(work: Callable[[], _T]) -> _T:
    """Return what the work comes to in a process of its own, which begins as this one is now."""
    gc.collect()
    gc.freeze()
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        code = 1
        try:
            with os.fdopen(sending, "wb") as pipe:
                pickle.dump(work(), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("a run failed; its traceback is above")
    result: _T = pickle.loads(answer)
    return result


def peak_memory() -> float:
    """Return the most megabytes that this process has ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Figures


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median, and from where to where the values go when they differ."""
    middle, low, high = (f"{v:,.{digits}f}" for v in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of all are not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def ratio(theirs: float, ours: float) -> str:
    """Return how many times as much theirs is."""
    return "-" if not ours else f"{theirs / ours:,.1f}x" if theirs / ours < 100 else f"{theirs / ours:,.0f}x"


def say_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table as Markdown, its columns in line."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            say("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    say()
