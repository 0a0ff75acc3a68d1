"""Follows a rollout to its end: hears the devices, shows where each stands, and stops it when too many fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Protocol

from edge_agent.errors import ConfigError, EdgeAgentError, TransportError
from edge_agent.rollouts import Rollout
from fleet.bell import ring
from fleet.campaign import Campaign, Phase, Standing, Verdict
from fleet.fleet_link import Connection, FleetLink, Said
from fleet.fleet_view import FleetView
from fleet.keys import KeyRing
from fleet.repository import open_repository, read_repository
from fleet.rollout_book import RolloutBook
from fleet.settings import private_folder

# A broker sends what it kept for a subscriber in no order and in no time of its own: only when nothing new was heard
# for so long are the devices that are known all of them.
QUIET_S: Final = 1.0
POLL_S: Final = 0.25
SEE_OUT_S: Final = 30.0  # a check over a slow line, and a swap back


class Screen(Protocol):
    """Where it is shown."""

    def show(self, campaign: Campaign) -> None:
        """All of it, now and then."""

    def changed(self, standing: Standing) -> None:
        """One device."""

    def say(self, line: str) -> None:
        """A word on the connection, or on the repository."""


class Book:
    """The rollouts of a repository, read again when its files have changed."""

    def __init__(self, folder: Path, channel: str, keys: Sequence[Path] = ()) -> None:
        self.folder, self._channel, self._keys = folder, channel, keys
        self._stamp: object = None

    def read(self, which: str) -> tuple[Rollout, dict[str, int]]:
        """The rollout of that id or model, and the numbers of all. Raises ConfigError."""
        self._stamp = self._seen()
        book = RolloutBook(read_repository(self.folder, _now()), self._channel)
        return book.find(which), {rollout.id: rollout.number for rollout in book.channel().rollouts}

    def newest(self) -> str:
        """The id of the newest rollout that was not stopped, else of the newest. Raises ConfigError."""
        rollouts = RolloutBook(read_repository(self.folder, _now()), self._channel).channel().rollouts
        if not rollouts:
            raise ConfigError(f"{self.folder} has no rollout in the channel {self._channel} yet: edge-fleet rollout")
        return max(rollouts, key=lambda rollout: (rollout.state != "stopped", rollout.number)).id

    def can_stop(self) -> bool:
        """Whether the keys that sign rollouts are at hand. Raises ConfigError."""
        repository = read_repository(self.folder, _now())
        ring = KeyRing(private_folder(self.folder), self._keys)
        role = repository.vouching("rollouts").get_delegated_role("rollouts")
        return len(ring.signers(role.keyids)) >= role.threshold

    def changed(self) -> bool:
        return self._seen() != self._stamp

    def stop(self, which: str) -> Rollout:
        """Raises ConfigError, StorageError."""
        with open_repository(self.folder, _now(), self._keys) as repository:
            return RolloutBook(repository, self._channel).stop(which)

    def _seen(self) -> object:
        try:
            return (self.folder / "metadata").stat().st_mtime_ns  # whatever is written there is renamed into place
        except OSError:
            return None


class Watch:
    """One rollout. Used by one thread."""

    def __init__(self, link: FleetLink, book: Book, which: str, screen: Screen) -> None:
        """Raises ConfigError."""
        self._link, self._book, self._screen = link, book, screen
        self._view = FleetView()
        rollout, numbers = book.read(which)
        self.campaign = Campaign(rollout, numbers)
        self._heard_s = time.monotonic()
        self._said = ""  # of the connection

    def run(self, limit_s: float | None = None) -> Verdict | None:
        """Until it is over; None: not within the limit. Where too many failed it is stopped, as far as that can be."""
        end_s = None if limit_s is None else time.monotonic() + limit_s
        while True:
            for item in self._link.receive(POLL_S):
                self._take(item)
            self._look_at_book()
            self._screen.show(self.campaign)
            verdict = self.campaign.verdict
            if verdict in (Verdict.TOO_MANY, Verdict.STOPPED) or (verdict is not None and self._complete()):
                break
            if end_s is not None and time.monotonic() >= end_s:
                return None
        if verdict is Verdict.TOO_MANY:
            self._stop(f"more than {self.campaign.rollout.max_failures} failed")
            self._see_out()
        elif verdict is Verdict.FAILED and self._failed_everywhere():
            self._stop("no device committed it")  # else a later rollback would bring it back
        return verdict

    def _failed_everywhere(self) -> bool:
        return bool(self.campaign.count(Phase.FAILED)) and not self.campaign.count(Phase.COMMITTED)

    def _see_out(self) -> None:
        """Those that try it see that it is stopped, as long as whoever watches is there (and may serve it)."""
        end_s = time.monotonic() + SEE_OUT_S
        while self.campaign.under_way_online() and time.monotonic() < end_s:
            for item in self._link.receive(POLL_S):
                self._take(item)
            self._screen.show(self.campaign)

    def _take(self, item: Said | Connection) -> None:
        if isinstance(item, Connection):
            self._heard_s = time.monotonic()
            if item.detail != self._said:  # once, however often it is tried
                self._screen.say(item.detail)
            self._said = item.detail
            return
        name = self._view.hear(item.topic, item.payload)
        if name is None:
            return
        self._heard_s = time.monotonic()
        device = self._view.devices[name]
        standing = self.campaign.note(device)
        if standing is not None and device.status is not None:  # else its status is on its way
            self._screen.changed(standing)

    def _complete(self) -> bool:
        return self._link.connected and time.monotonic() - self._heard_s >= QUIET_S

    def _look_at_book(self) -> None:
        if not self._book.changed():
            return
        rollout = self.campaign.rollout
        self._guarded(lambda: self.campaign.follow(*self._book.read(rollout.id), self._view.devices.values()))
        if self.campaign.rollout != rollout:
            new = self.campaign.rollout
            self._screen.say(f"{new.id} is {new.state} now, {new.percent:g} %")

    def _stop(self, why: str) -> None:
        rollout = self.campaign.rollout
        said = f"{why}: {rollout.id}"
        if self._guarded(lambda: self._book.stop(rollout.id), f"{said} should be stopped and could not be: "):
            self._screen.say(f"{said} is stopped")
            self._guarded(lambda: ring(self._link, rollout), "the devices were not woken: ")

    def _guarded(self, action: Callable[[], object], said: str = "") -> bool:
        try:
            action()
        except EdgeAgentError as error:
            self._screen.say(f"{said}{error}")
            return False
        return True


def gather(link: FleetLink, most_s: float) -> FleetView:
    """What the broker has kept of all devices. Raises TransportError where the connection is lost meanwhile."""
    view = FleetView()
    heard_s = time.monotonic()
    end_s = heard_s + most_s
    while time.monotonic() < min(end_s, heard_s + QUIET_S):
        for item in link.receive(POLL_S):
            if isinstance(item, Connection) and not item.up:
                raise TransportError(item.detail)
            if isinstance(item, Said) and view.hear(item.topic, item.payload) is not None:
                heard_s = time.monotonic()
    return view


def _now() -> datetime:
    return datetime.now(timezone.utc)
