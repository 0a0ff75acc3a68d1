"""Progress of long steps, for a person: bars on a terminal, lines in a log, nothing in a library call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class Advance(Protocol):
    """Sets how far a step has come; ``total`` and ``text`` where they were not known at its start."""

    def __call__(self, done: int, total: int | None = None, text: str | None = None) -> None: ...


def _ignore(done: int, total: int | None = None, text: str | None = None) -> None:
    """Nobody looks."""


class Progress(Protocol):
    """Where steps report to."""

    def step(self, text: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Around a long step. Yields a function that sets how much of ``total`` is done; without a total only time
        passes."""

    def say(self, text: str) -> None:
        """One line that stays."""


class Silent:
    """For library calls that ask for no progress."""

    def step(self, text: str, total: int | None = None) -> AbstractContextManager[Advance]:
        return nullcontext(_ignore)

    def say(self, text: str) -> None:
        """Nobody listens."""


class Terminal:
    """Bars on standard error where it is a terminal, one line for each step where it is not."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._depth = 0

    @contextmanager
    def step(self, text: str, total: int | None = None) -> Iterator[Advance]:
        if not self._console.is_terminal or self._depth:
            # a bar inside a bar would fight for the line
            if not self._depth:
                print(f"{text} ...", file=sys.stderr)
            yield _ignore
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        columns.append(TimeRemainingColumn())
        self._depth += 1
        try:
            with Bars(*columns, console=self._console, transient=True) as bars:
                task = bars.add_task(text, total=total)

                def advance(done: int, total: int | None = None, text: str | None = None) -> None:
                    bars.update(task, completed=done, total=total, description=text)

                yield advance
        finally:
            self._depth -= 1

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
