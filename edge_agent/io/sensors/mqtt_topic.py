"""``mqtt:TOPIC``: readings that another device publishes to the broker this daemon is connected to.

The payload is JSON with each field's ``select`` as a path, or a bare number for the only field. The network thread
stamps and queues; everything else happens on the sensor's own thread.
"""

from __future__ import annotations

import re
import threading
from collections import deque

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import UNREADABLE_CHARS, SensorContext, source_of, unreadable
from edge_agent.io.sensors.json_path import JsonFields
from edge_agent.records import RawSample

QUEUE_MOST = 256  # messages that wait for the sensor's thread
PAYLOAD_BYTES_MOST = 64 * 1024  # a larger one is no reading; 256 of these are 16 MiB at most
TOPIC_BYTES_MOST = 65_535  # MQTT 5, section 1.5.4: a string's length is two bytes

# `+` stands for one whole level, `#` for all that follow, and only at the end (MQTT 5, section 4.7.1).
_TOPIC_FILTER = re.compile(r"(?:(?:\+|[^+#/\x00]*)/)*(?:#|\+|[^+#/\x00]*)")


class MqttTopicSensor:
    """One sample a message, stamped at its arrival.

    ``overflows`` counts messages that were pushed out of the full queue by newer ones; ``retained_ignored`` those
    that the broker had kept: their age is unknown, so that they say nothing about now.
    """

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext) -> None:
        """Raises ConfigError for a malformed topic or ``select``."""
        _check_topic(config.name, argument)
        self.overflows = 0
        self.retained_ignored = 0
        self._config = config
        self._topic = argument
        self._clock = context.clock
        self._subscribe = context.subscribe
        self._fields = JsonFields(config)
        self._subscribed = False
        self._open = False
        self._arrived = threading.Condition()
        self._queue: deque[tuple[int, bytes]] = deque(maxlen=QUEUE_MOST)

    def open(self) -> None:
        """Subscribe, once: the broker's connection asks again after each reconnection. Raises DeviceError."""
        if self._subscribe is None:
            raise DeviceError(
                f"{source_of(self._config)} needs the broker's connection, which only a running agent has"
            )
        self._open = True
        if not self._subscribed:
            self._subscribed = True
            self._subscribe(self._topic, self._receive)

    def read(self, timeout_s: float) -> RawSample | None:
        """The oldest message not yet read. Silence is no loss of the device: the publisher may just be slow."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._queue, timeout_s):
                return None
            arrival_ns, payload = self._queue.popleft()
        return RawSample(arrival_ns, self._values(payload))

    def close(self) -> None:
        """Messages from now on are ignored; the subscription stays with the connection."""
        with self._arrived:
            self._open = False
            self._queue.clear()

    def _receive(self, _topic: str, payload: bytes, retained: bool) -> None:
        arrival_ns = self._clock.monotonic_ns()
        with self._arrived:
            if not self._open:
                return
            if retained:
                self.retained_ignored += 1
                return
            self.overflows += len(self._queue) == QUEUE_MOST
            # One byte over the bound is kept as the mark of a payload that was too long.
            self._queue.append((arrival_ns, payload[: PAYLOAD_BYTES_MOST + 1]))
            self._arrived.notify()

    def _values(self, payload: bytes) -> dict[str, object]:
        try:
            if len(payload) <= PAYLOAD_BYTES_MOST:
                return self._fields.values(payload.decode("utf-8"))
        except ValueError:  # not UTF-8, not JSON, or none of the fields
            pass
        return unreadable(self._config, payload[: 4 * UNREADABLE_CHARS].decode("utf-8", errors="replace"))


def _check_topic(sensor: str, topic: str) -> None:
    size = len(topic.encode("utf-8", errors="replace"))
    if 0 < size <= TOPIC_BYTES_MOST and _TOPIC_FILTER.fullmatch(topic):
        return
    # Escaped and cut off: the message stays one line whatever the topic holds.
    shown = repr(topic[:UNREADABLE_CHARS])[1:-1] + ("..." if len(topic) > UNREADABLE_CHARS else "")
    raise ConfigError(
        f'sensor "{sensor}": source "mqtt:{shown}" ({size} bytes) is no topic; allowed: 1 to {TOPIC_BYTES_MOST} bytes '
        'without NUL, "+" and "#" only as whole levels, "#" only as the last one'
    )
