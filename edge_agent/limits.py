"""Bounds and constants in one frozen place, each with its unit and where it comes from."""

from __future__ import annotations

from typing import Final

# Reopening a camera, a sensor or the broker: doubles from the first to the last, full jitter.
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LAST_S: Final = 30.0

# Slots of ready tensors for each pipeline: one being filled, one waiting, one being invoked.
RING_SLOTS: Final = 3
RING_SLOTS_MOST: Final = 64  # with align.wait, frames wait in their slots

# Readings kept for each sensor field, whatever the window: a 1 kHz sensor for four seconds.
READINGS_KEPT: Final = 4096

# A back-end is tried in a child process: shader or delegate set-up can take long, a hang must end.
PROBE_TIMEOUT_S: Final = 60.0

# A picture larger than that is refused before it is decoded (a 20,000 x 20,000 image is 1.2 GB as BGR).
IMAGE_PIXELS_MOST: Final = 64_000_000

# A model file larger than that is refused: no board of ours could hold it in memory twice (swap).
MODEL_BYTES_MOST: Final = 512 * 2**20

# QoS 1 messages in flight where the broker does not say less (MQTT 5 receive maximum; mosquitto's default is 20).
INFLIGHT_MOST: Final = 100

# Predictions decoded and waiting for the publisher: an invoke thread that is faster than the wire blocks here.
PUBLISH_QUEUE: Final = 64

# The largest command payload that is looked at: settings are words and numbers.
COMMAND_BYTES_MOST: Final = 4096

# Commands that wait for the main thread; a flood beyond that is counted and ignored.
COMMANDS_WAITING_MOST: Final = 256

# A clean stop must fit well into systemd's TimeoutStopSec.
STOP_FLUSH_S: Final = 3.0

# Threads that do not end by then (a driver that hangs) are left behind: the process ends all the same.
STOP_JOIN_S: Final = 1.5
