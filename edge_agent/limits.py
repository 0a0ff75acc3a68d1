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

# A device that was lost is tried again: first soon (a stick is back within seconds of being plugged in), then ever more
# rarely, and soon again only after it ran for so long: a loose plug must not make the pipeline flap.
DELEGATE_RETRY_FIRST_S: Final = 30.0
DELEGATE_RETRY_LAST_S: Final = 600.0
DELEGATE_STEADY_S: Final = 600.0

# Where no other back-end can say whether the device or the model is at fault: so many failed samples in a row.
DELEGATE_FAILURES_MOST: Final = 3

# A model that runs in a process of its own: its driver may compile shaders for a minute and more before the first run
# (MobileNetV2 on a software GPU took two on two busy cores); one step of the start is longer. A run that takes longer
# than the second has hung; the pipeline's own watchdog is slower.
GPU_START_S: Final = 110.0
CHILD_RUN_S: Final = 20.0

# One step of the start (a back-end tried and built, a model warmed up): a probe, and as much again to build. The unit
# gives the start until its first step is named as much.
START_STEP_S: Final = 120.0

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

# The largest label that is looked at: its prediction may come along. And labels and requests that wait for a count.
FEEDBACK_BYTES_MOST: Final = 65536
FEEDBACK_WAITING_MOST: Final = 1024

# Commands that wait for the main thread; a flood beyond that is counted and ignored.
COMMANDS_WAITING_MOST: Final = 256

# A clean stop takes at most 5 s, whatever hangs: the workers' end, the broker's last messages, the last commit.
STOP_FLUSH_S: Final = 2.0
STOP_STORE_S: Final = 0.8
STOP_DRIFT_S: Final = 0.5  # beyond what the other workers took: the last report, and what was learnt
STOP_MOST_S: Final = 4.7

# Threads that do not end by then (a driver that hangs) are left behind: the process ends all the same.
STOP_JOIN_S: Final = 1.0

# durability = "batch": what is not acknowledged for that long goes to the disk. One second is left for the disk itself,
# so that a power cut costs at most the last 5 s.
STORE_AFTER_S: Final = 4.0

# The ledger's row on the disk is never older than that, however quiet or healthy it is.
CHECKPOINT_S: Final = 600.0

# Acknowledged records leave the disk in batches: after that time, or when so many have gathered.
DELETE_AFTER_S: Final = 1.0
DELETES_MOST: Final = 4096

# A transfer of a model that brings fewer bytes a second over that time is given up, and resumed later.
TRANSFER_LEAST_RATE: Final = 1024
TRANSFER_SILENCE_S: Final = 60.0

# Frames on their way to a model that is to be unloaded.
SWAP_DRAIN_S: Final = 10.0

# A process that has run for so long is healthy: its starts no longer count against a new model.
HEALTHY_S: Final = 60.0

# Signed metadata is small; more is an attack or a mistake.
METADATA_BYTES_MOST: Final = 4 * 2**20

# A page of the backlog, read from the disk while the one before it goes out.
PAGE_RECORDS: Final = 1024
PAGE_BYTES: Final = 2 * 2**20

# A disk that fails is tried again: first soon (somebody freed some room), then rarely.
DISK_FIRST_S: Final = 1.0
DISK_LAST_S: Final = 60.0

# A message that the broker does not take now (a quota) is offered again.
REFUSED_FIRST_S: Final = 1.0
REFUSED_LAST_S: Final = 30.0

# Messages that the broker refused for good, kept for a person to look at.
SET_ASIDE_MOST: Final = 256

# A disk that stalls for longer than that will not come back by itself: a restart of the process may help.
DISK_SILENCE_MOST_S: Final = 300.0

# A worker that failed counts as well again after so long without another failure.
WORKER_STEADY_S: Final = 60.0

# A worker that outlives the order to stop (publisher, store) and fails then is started again after that.
WORKER_STOPPING_S: Final = 0.1

# Distinct tracebacks logged for one worker within WORKER_STEADY_S; more are only counted.
WORKER_TRACEBACKS_MOST: Final = 10

# The main thread works on commands, statistics and the watchdog; it waits for nothing longer than a second.
CONTROL_SILENCE_S: Final = 30.0

# How often temperature, firmware flags and memory are looked at: vcgencmd may take 2 s.
UPKEEP_PERIOD_S: Final = 5.0

# Heat halves the rate once more after so long without relief, and doubles it after so long of well-being: a heat sink
# answers within tens of seconds. Six halvings bring 60/s to 1/s.
HEAT_SLOWER_S: Final = 30.0
HEAT_FASTER_S: Final = 60.0
HEAT_LEVEL_MOST: Final = 6

# A board slower than a pipeline's configured rate: judged over a window of so long and so many runs at least, which
# smooths single slow frames. It can't keep the rate where the model needs more than all of the time, or fewer than that
# part of the frames get through. The lower rate uses so much of what it managed, and rises where a fifth or more is to
# be gained and there was room for so long, twice as long after each rise that had to be taken back: where others want
# the cores too, a frame takes longer at the higher rate.
OVERLOAD_WINDOW_S: Final = 10.0
OVERLOAD_RUNS_LEAST: Final = 5
OVERLOAD_KEPT: Final = 0.8
OVERLOAD_TARGET: Final = 0.9
OVERLOAD_GAIN_LEAST: Final = 0.8
OVERLOAD_FASTER_S: Final = 60.0
OVERLOAD_FASTER_MOST_S: Final = 960.0

# Under-voltage flickers with the load: one event until it has been away for so long.
UNDER_VOLTAGE_QUIET_S: Final = 600.0

# Memory: reported above the first share of what the kernel allows, well again below the second.
MEMORY_HIGH: Final = 0.8
MEMORY_NORMAL: Final = 0.7
# The same for what the board has left (the kernel swaps and kills beneath).
MEMORY_AVAILABLE_LOW: Final = 0.05
MEMORY_AVAILABLE_NORMAL: Final = 0.1
# Growth: over a baseline taken between these two times after the start, by this factor and at least so many MiB.
MEMORY_BASELINE_S: Final = (60.0, 120.0)
MEMORY_GROWTH: Final = 2.0
MEMORY_GROWTH_LEAST_MB: Final = 100.0
