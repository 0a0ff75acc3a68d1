"""Joins the broker and the file: read, commit, and only then acknowledge.

Killed at any moment, the broker still has all that the file lacks, and the file knows all that comes twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from msgspec import Struct

from edge_agent.core.backoff import Backoff
from edge_agent.core.wire import rfc3339
from edge_agent.errors import StorageError, TransportError
from fleet.intake import read
from fleet.store import Committed, Item, Store
from fleet.subscription import Message, Subscription

BATCH_MOST = 500  # messages of one commit
BATCH_WAIT_S = 0.1  # from its first message to the commit
BATCH_SILENCE_S = 0.002  # nothing more on its way: do not wait, a broker sends only so many before an acknowledgement
POLL_S = 0.2  # how soon a signal is seen
DISK_FIRST_S, DISK_LAST_S = 1.0, 30.0
HINT_AFTER_S = 30.0


class Totals(Struct):
    """Since the start of this process."""

    messages: int = 0
    predictions: int = 0
    events: int = 0
    others: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0

    def add(self, done: Committed, messages: int) -> None:
        self.messages += messages
        for name in ("predictions", "events", "others", "duplicates", "conflicts", "rejected"):
            setattr(self, name, getattr(self, name) + getattr(done, name))


class Listener(Struct, frozen=True):
    """Who is told: ``say`` one line of trouble or change; ``warning`` device, time and line of an event; ``status``
    every ``status_every_s``, with the predictions per second since the last."""

    say: Callable[[str], None]
    warning: Callable[[str, str, str], None]
    status: Callable[[float], None]
    status_every_s: float = 5.0


class Until(Struct, frozen=True):
    """When to end by itself. ``idle_s``: so long without a message."""

    for_s: float | None = None
    idle_s: float | None = None


class Collector:
    def __init__(self, store: Store, subscription: Subscription, base: str, listener: Listener) -> None:
        self.totals = Totals()
        self.stopping = False  # set by a signal
        self._store = store
        self._subscription = subscription
        self._base = base
        self._listener = listener
        self._backoff = Backoff(DISK_FIRST_S, DISK_LAST_S)
        self._disk_retry_at = 0.0
        self._disk_failure = ""
        self._hinted = False

    def run(self, until: Until) -> None:
        """Until it is told to stop. Raises TransportError where there was no connection by the time when it should
        end, or the broker refuses it; StorageError where the file is damaged."""
        started = last_message = last_status = time.monotonic()
        predictions = 0
        while not self.stopping:
            if self._gather():
                last_message = time.monotonic()
            self._commit()
            now = time.monotonic()
            if not self._subscription.subscribed:
                last_message = now  # what waits with a broker that is away may still come
            if now - last_status >= self._listener.status_every_s:
                self._listener.status((self.totals.predictions - predictions) / (now - last_status))
                predictions, last_status = self.totals.predictions, now
                self._hint(now - started)
            if self._over(until, now - started, now - last_message):
                break
        self._finish()

    def _gather(self) -> bool:
        """Wait for a message, then for those that come right behind it. Whether any came."""
        arrived = len(self._subscription.arrived)
        self._subscription.poll(POLL_S)
        first = time.monotonic()
        count = len(self._subscription.arrived)
        if count <= arrived:
            return False
        while count < BATCH_MOST and time.monotonic() - first < BATCH_WAIT_S:
            self._subscription.poll(BATCH_SILENCE_S)
            if len(self._subscription.arrived) <= count:
                break
            count = len(self._subscription.arrived)
        return True

    def _commit(self) -> bool:
        """Whether nothing is left that could be committed now."""
        batch = self._subscription.arrived[:BATCH_MOST]
        if not batch:
            return True
        if time.monotonic() < self._disk_retry_at and not self.stopping:
            return False
        try:
            done = self._store.commit([self._item(message) for message in batch], rfc3339(time.time_ns()))
        except StorageError as error:
            if error.damaged:
                raise StorageError(
                    f"{error}; put the file aside: edge-fleet collect begins a new one", damaged=True
                ) from None
            self._disk_retry_at = time.monotonic() + self._backoff.next(random.random())
            if str(error) != self._disk_failure:
                self._listener.say(f"{error}; nothing is acknowledged, the broker keeps it; trying again")
            self._disk_failure = str(error)
            return False
        if self._disk_failure:
            self._listener.say("the disk takes data again")
            self._disk_failure = ""
            self._backoff.reset()
        self._subscription.acknowledge(len(batch))
        self.totals.add(done, len(batch))
        for warning in done.warnings:
            self._listener.warning(*warning)
        return True

    def _item(self, message: Message) -> Item:
        return Item(read(self._base, message.topic, message.payload), message.retained)

    def _over(self, until: Until, running_s: float, idle_s: float) -> bool:
        out_of_time = until.for_s is not None and running_s >= until.for_s
        limit_s = until.for_s if until.for_s is not None else until.idle_s
        if limit_s is not None and running_s >= limit_s and not self._subscription.ever_subscribed:
            why = self._subscription.last_failure or "the broker did not answer"
            raise TransportError(f"{why}; nothing was collected")
        return out_of_time or (until.idle_s is not None and idle_s >= until.idle_s)

    def _hint(self, running_s: float) -> None:
        """A broker such as mosquitto grants a subscription that its access list makes empty."""
        if (
            not self._hinted
            and running_s >= HINT_AFTER_S
            and self._subscription.subscribed
            and not self.totals.messages
        ):
            self._hinted = True
            self._listener.say(
                f"connected, but nothing has come, not even an availability: do devices publish below {self._base!r}, "
                "and may this user read it?"
            )

    def _finish(self) -> None:
        while self._subscription.arrived and self._commit():
            pass
        self._subscription.close()
