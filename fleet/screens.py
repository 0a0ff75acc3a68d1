"""A rollout on a terminal: a live table with a bar, or a line for each change where nobody looks; or JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet.campaign import Campaign, Phase, Standing, Verdict
from fleet.fleet_text import counts_text, ended_text, standing_line, standing_object, title

WATCH_SCHEMA = "edge-fleet/watch/1"
_COLOURS = {Phase.FAILED: "red", Phase.UNDER_WAY: "yellow", Phase.COMMITTED: "green", Phase.LEFT_OUT: "dim"}
_OTHER_LINES = 6  # of the terminal: title, bar, head of the table
_BAR_WIDTH = 40


class LineScreen(AbstractContextManager["LineScreen"]):
    """One line for each change that a line shows."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}  # the last one of each device

    def show(self, campaign: Campaign) -> None:
        """Said line by line already."""

    def changed(self, standing: Standing) -> None:
        line = standing_line(standing)
        if self._lines.get(standing.device) != line:
            self.say(line)
        self._lines[standing.device] = line

    def say(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)

    def ended(self, campaign: Campaign, verdict: Verdict | None) -> None:
        print(ended_text(campaign, verdict), flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


class JsonScreen(LineScreen):
    """One object for each change, and one at the end."""

    def changed(self, standing: Standing) -> None:
        self._object("device", **standing_object(standing))

    def say(self, line: str) -> None:
        self._object("note", text=line)

    def ended(self, campaign: Campaign, verdict: Verdict | None) -> None:
        counts = {phase.value: campaign.count(phase) for phase in Phase}
        word = None if verdict is None else verdict.value
        self._object(
            "end", ok=verdict is Verdict.GOOD, verdict=word, rollout=campaign.rollout.id, counts=counts,
            devices=[standing_object(standing) for standing in campaign.standings],
        )  # fmt: skip

    def _object(self, kind: str, **members: object) -> None:
        print(json.dumps({"schema": WATCH_SCHEMA, "type": kind, **members}), flush=True)


class LiveScreen(LineScreen):
    """The table, drawn anew in place; notes scroll above it."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, campaign: Campaign) -> None:
        self._live.update(picture(campaign, max(1, self._console.height - _OTHER_LINES)), refresh=True)

    def changed(self, standing: Standing) -> None:
        """The table shows it."""

    def say(self, line: str) -> None:
        self._console.print(Text(f"{time.strftime('%H:%M:%S')}  {line}", style="dim"))

    def ended(self, campaign: Campaign, verdict: Verdict | None) -> None:
        self._live.stop()
        self._console.print(Text(ended_text(campaign, verdict)), soft_wrap=True)


def screen(as_json: bool) -> LineScreen:
    if as_json:
        return JsonScreen()
    return LiveScreen() if sys.stdout.isatty() else LineScreen()


def picture(campaign: Campaign, rows: int) -> RenderableType:
    """Title, bar and as many devices as there is room for."""
    table = Table(box=None, pad_edge=False, expand=True)
    for name, ratio in (("DEVICE", None), ("STATE", None), ("RUNS", None), ("REASON", 1)):
        table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
    standings = campaign.standings
    for standing in standings[:rows]:
        progress = "" if standing.progress is None else f" {standing.progress:.0%}"
        away = " (offline)" if standing.online is False else ""
        why = ": ".join(part for part in (standing.reason, standing.detail) if part)
        colour = _COLOURS.get(standing.phase, "")
        table.add_row(
            Text(standing.device), Text(f"{standing.word}{progress}{away}", colour), Text(standing.runs), Text(why)
        )
    if len(standings) > rows:
        table.add_row(Text(f"and {len(standings) - rows} more", "dim"))
    colour = _COLOURS[Phase.FAILED if campaign.count(Phase.FAILED) else Phase.COMMITTED]
    bar = ProgressBar(1.0, campaign.share_done, _BAR_WIDTH, complete_style=colour, finished_style=colour)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, Text(counts_text(campaign)))
    return Group(Text(title(campaign), "bold"), line, table)
