"""One pipeline's aligner, between the sensors' threads and the pipeline's own."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edge_agent.core.align import Aligner, View, Wanted
from edge_agent.records import Discard, Frame, Reading, Sample
from edge_agent.stages.media import MediaSensor

KNOWN_BEFOREHAND = -(2**62)  # arrival time of a media row: before every frame


class Alignment:
    """Safe for threads. ``media``: sensors on media time, which are read as far as the frames have come."""

    def __init__(self, aligner: Aligner, media: Mapping[str, MediaSensor]) -> None:
        self._aligner = aligner
        self._media = media
        self._lock = threading.Lock()

    def add(self, reading: Reading, arrival_ns: int) -> None:
        with self._lock:
            self._aligner.add(reading, arrival_ns)

    def view(self, wanted: Sequence[Wanted]) -> View:
        """For a further model. Raises ValueError where a feature could be neither filled nor discarded."""
        with self._lock:
            return self._aligner.view(wanted)

    def sample(self, frame: Frame, view: View) -> Sample | Discard:
        with self._lock:
            if frame.media_ns is not None:
                self._feed_media(frame.mono_ns - frame.media_ns, frame.media_ns)
            return self._aligner.align(frame.mono_ns, view)

    def late(self) -> int:
        with self._lock:
            return self._aligner.late

    def _feed_media(self, epoch_ns: int, media_ns: int) -> None:
        for sensor in self._media.values():
            for reading in sensor.until(media_ns):
                self._aligner.add(replace(reading, mono_ns=reading.mono_ns + epoch_ns), KNOWN_BEFOREHAND)
