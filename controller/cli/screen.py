"""Where an answer is shown: how wide, in colour or not, and in which time zone. Everything shown goes through here."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import click

from controller.core.model import MINUTE, Millis
from controller.telemetry import escaped

__all__ = ["Screen", "cells", "escaped", "out", "padded", "say", "screen"]

_NARROWEST = 40


@dataclass(frozen=True, slots=True)
class Screen:
    """width is None where lines are not wrapped: in a pipe or a file. zone None is this machine's."""

    width: int | None = None
    color: bool = False
    zone: tzinfo | None = None

    def paint(self, text: str, color: str | None = None, *, dim: bool = False, bold: bool = False) -> str:
        """Return the text in a colour, where there are colours."""
        if not self.color or not (color or dim or bold):
            return text
        return click.style(text, fg=color, dim=dim or None, bold=bold or None)

    def moment(self, at: Millis) -> datetime:
        """Return a time in the zone that is shown."""
        return datetime.fromtimestamp(at / 1000, self.zone).astimezone(self.zone)

    def time(self, at: Millis, now: Millis) -> str:
        """Return `15:22:04`, with the date when it is another day."""
        there, here = self.moment(at), self.moment(now)
        return there.strftime("%H:%M:%S" if there.date() == here.date() else "%Y-%m-%d %H:%M:%S")

    def soon(self, at: Millis, now: Millis) -> str:
        """Return `15:22`, to the second when it is near, with the date when it is another day."""
        text = self.time(at, now)
        return text if abs(at - now) < 10 * MINUTE else text.removesuffix(text[-3:])

    def zone_name(self, at: Millis) -> str:
        """Return what the zone is called at that time."""
        return self.moment(at).tzname() or ""

    def wrapped(self, text: str, first: str = "", rest: str = "") -> list[str]:
        """Return the text in lines that fit, the first behind `first`, the others behind `rest`; words stay whole."""
        if self.width is None:
            return [first + text]
        width = max(self.width, _NARROWEST)
        if cells(first) + cells(text) <= width:
            return [first + text]
        return textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
        ) or [first]

    def joined(self, parts: Sequence[str], between: str = " · ") -> list[str]:
        """Return the parts in one line, or in as many as it takes; no part is broken."""
        lines: list[str] = []
        for part in parts:
            if lines and (self.width is None or cells(lines[-1] + between + part) <= self.width):
                lines[-1] += between + part
            else:
                lines.append(part)
        return lines


def cells(text: str) -> int:
    """Return how many columns the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, width: int) -> str:
    """Return the text with spaces up to that many columns; one that is longer stays whole."""
    return text + " " * max(width - cells(text), 0)


def screen() -> Screen:
    """Return what standard output is."""
    terminal = sys.stdout.isatty()
    # A width that was asked for holds in a pipe, too.
    fixed = os.environ.get("COLUMNS", "")
    width = shutil.get_terminal_size().columns if terminal or (fixed.isdigit() and int(fixed) > 0) else None
    return Screen(width, terminal and has_colors())


def has_colors() -> bool:
    """Whether colours are wanted (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def out(lines: Iterable[str], color: bool = False) -> None:
    """Write an answer to standard output."""
    # One write: a long answer line by line costs more than computing it.
    text = "\n".join(lines)
    if text:
        click.echo(text, color=color or None)


def say(line: str) -> None:
    """Write a remark beside the answer, to standard error."""
    click.echo(line, err=True)
