"""How the demo speaks: scenes, sentences, what the controller did, what was checked, and figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from controller.cli import render
from controller.cli.screen import Screen, cells, out, padded
from controller.cli.story.child import Event
from controller.cli.work import Progress
from controller.core.model import Action, OutcomeStatus, Reason, Step

__all__ = ["Teller"]

_INDENT = "      "
_MARGIN = "    "
"""Before lines that are indented already."""
_WIDEST = 100
"""Longer lines are hard to read."""
_WORDS_PER_SECOND = 24.0
"""Pauses are a part of the time that reading takes; the rest of it goes by while something happens."""
_WORDS_READ_PER_SECOND = 4.0
_UNDER_WAY = frozenset({Step.CLAIM, Step.RUN_TASK, Step.RECORD_ARN})
"""Steps of a launch: shown as one line when the container runs."""
_VERB = "record"
"""The longest word that a line of the story begins with, for columns that do not jump."""
_QUANTITY = re.compile(r"(?<=\d) (?=(?:s|min|h)\b)")
_NO_BREAK = "\u00a0"


class Teller:
    """Tells a story on a screen. `pause` waits for the reader, so many seconds; it may as well not."""

    def __init__(self, screen: Screen, pause: Callable[[float], None]) -> None:
        self._screen = replace(screen, width=None if screen.width is None else min(screen.width, _WIDEST))
        self._pause = pause
        self._progress = Progress()
        self._words = 0
        self._starting: dict[str, tuple[Action, int | None]] = {}
        self.cast(())

    # Sentences

    def headline(self, *lines: str) -> None:
        """Say what this is. A line that is indented is to be copied: it stays whole."""
        self._out(text for line in lines for text in ([line] if line.startswith(" ") else self._screen.wrapped(line)))

    def scene(self, number: int, scenes: int, title: str) -> None:
        """Begin a scene."""
        self._out(["", self._screen.paint(f" {number}/{scenes}  {title}", bold=True)])

    def say(self, *sentences: str) -> None:
        """Say a paragraph, and give the reader a while."""
        self._words += sum(len(s.split()) for s in sentences)
        self._out(self._wrapped(" ".join(sentences), _INDENT, _INDENT))

    def breathe(self) -> None:
        """Wait for the reader to have read what was said since the last time."""
        self._progress.clear()
        words, self._words = self._words, 0
        self._pause(words / _WORDS_PER_SECOND)

    def receipt(self, *parts: str) -> None:
        """Say what was saved."""
        text = " ".join(parts)
        self._words += len(text.split())
        self._out(self._wrapped(text, f"{_INDENT}saved: ", f"{_INDENT}       "))

    def waited(self, seconds: float) -> None:
        """Take in that the reader had so long for what was said."""
        self._words = max(0, self._words - round(seconds * _WORDS_READ_PER_SECOND))

    def checked(self, *parts: str) -> None:
        """Say what was found to be as told."""
        text = " ".join(parts)
        self._words += len(text.split())
        self._out(self._wrapped(text, f"{_INDENT}checked: ", f"{_INDENT}         "))

    def progress(self, text: str) -> None:
        """Say what is waited for, on a terminal."""
        width = self._screen.width or _WIDEST
        self._progress.show(f"{_INDENT}… {text}"[: width - 1])

    def clear(self) -> None:
        """Take away what only was of the moment."""
        self._progress.clear()

    # What the controller does

    def cast(self, names: Collection[str], widest_reason: Reason = Reason.LAUNCH_UNFINISHED) -> None:
        """Begin to listen to these containers; with more than one, each line says whose it is."""
        self._starting.clear()
        self._named = len(names) > 1
        widest = [render.Line("", _VERB, name if self._named else "", widest_reason, "") for name in names]
        width = self._screen.width and self._screen.width - len(_MARGIN)
        self._columns = render.Columns(replace(self._screen, width=width), widest)

    def event(self, event: Event) -> None:
        """Show what the controller did or decided; the steps of a launch as one line, when its container runs."""
        action = event.action
        if action is None or event.outcome == OutcomeStatus.SKIPPED or event.step == Step.TERMINATED:
            return
        if event.step in _UNDER_WAY and event.done:
            self._starting[event.container_id] = action, event.generation
            return
        if event.is_up and event.container_id in self._starting:
            start, generation = self._starting.pop(event.container_id)
            action = replace(start, message=f"generation {generation}, {event.message}")
        self.line(action)

    def line(self, action: Action) -> None:
        """Show one line in the words and symbols of `editctl plan`."""
        line = render.line_of(action if self._named else replace(action, container_id=""))
        self._out(_MARGIN + text for text in self._columns.lay(line))

    # Figures

    def figures(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Show what was measured: what, how much, and a remark."""
        names, values = (max(cells(row[i]) for row in rows) for i in (0, 1))
        self._out(["", self._screen.paint(f"      {title}", bold=True)])
        for name, value, remark in rows:
            start = f"{_INDENT}{padded(name, names)}  {' ' * (values - cells(value))}{value}  "
            self._out(line.rstrip() for line in self._wrapped(remark, start, " " * cells(start)))

    def _wrapped(self, text: str, first: str, rest: str) -> list[str]:
        """Return the text in lines that fit; a number stays with its unit."""
        lines = self._screen.wrapped(_QUANTITY.sub(_NO_BREAK, text), first, rest)
        return [line.replace(_NO_BREAK, " ") for line in lines]

    def _out(self, lines: Iterable[str]) -> None:
        self._progress.clear()
        out(lines, self._screen.color)
