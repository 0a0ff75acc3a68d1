"""Network cameras over RTSP, through FFmpeg inside OpenCV; over TCP wherever the camera offers it (OpenCV's default).

Old frames are the trap of such a source: FFmpeg keeps those of its probing (1 to 2 s) and the kernel those that came
while nobody read. They are skipped for a camera that wants the newest, and are never stamped as new.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import cv2
from msgspec.structs import replace

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import DeviceError
from edge_agent.io.cameras._network import join_address, split_address
from edge_agent.io.cameras._opencv import OpenCvCamera
from edge_agent.io.cameras._resolve import addresses_of
from edge_agent.ports import Clock
from edge_agent.records import Grab

# Opening includes 1 to 2 s of probing, which a shorter time-out would cut: OpenCV 4.10 then calls a stream open that
# never delivers.
OPEN_LEAST_NS: Final = 4 * 10**9

RTSP_PORT: Final = 554

# A frame that is that much later than the quickest one waited somewhere; jitter on a good network is far below.
STALE_NS: Final = 300 * 10**6

# Skipping ends after that long even if frames are still old: then this board decodes slower than the camera sends.
SKIP_MOST_NS: Final = 500 * 10**6

# While probed frames are left over, a read takes only decoding; one that takes half a period waited for the network.
LIVE_SHARE: Final = 0.5
FPS_PLAUSIBLE: Final = (5.0, 60.0)
FPS_DEFAULT: Final = 25.0


class RtspCamera(OpenCvCamera):
    """``rtsp://`` and ``rtsps://``. FFmpeg does not check the certificate of ``rtsps://``.

    A stream that changes its size without beginning anew is scaled, whole, to the size that it had at first: OpenCV
    says nothing of the change. Opened again, it has its new size.
    """

    backend = cv2.CAP_FFMPEG
    advice = "it did not answer as an RTSP camera; check the address, the path, the user and password, and the network"

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        super().__init__(config, clock, folder, stopping)
        address, credentials = split_address(config, folder)
        self._host = urlsplit(address).hostname or ""
        self._address = join_address(address, credentials)
        self._delay = Delay()
        self._sent_ns = -1
        self._repeated = 0  # how many stamps in a row were equal to the one before

    def _target(self) -> str:
        return self._address

    def open(self) -> None:
        """Raises DeviceError, within twice the camera's time-out (its time-out counts as 4 s at least here)."""
        self.close()
        try:
            # FFmpeg asks the name servers again, but without a bound: it only does so where they have just answered
            addresses_of(self._host, RTSP_PORT, self._config.timeout.seconds)
        except TimeoutError as error:
            raise DeviceError(f"{self._label}: the name servers do not answer; check the network") from error
        except OSError as error:
            raise DeviceError(f"{self._label}: its host name is not known; check the address") from error
        super().open()

    def _parameters(self) -> list[int]:
        open_ms = max(OPEN_LEAST_NS, self._config.timeout) // 10**6
        read_ms = max(1, self._config.timeout // 10**6)
        # each further decoder thread holds back one more frame
        return [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms),
            *(cv2.CAP_PROP_N_THREADS, 1),
        ]

    def _prepare(self, capture: cv2.VideoCapture) -> None:
        """Read what is left of the probing, so that the first frame given out is live."""
        self._delay, self._sent_ns, self._repeated = Delay(), -1, 0
        fps = capture.get(cv2.CAP_PROP_FPS)
        period_ns = 1e9 / (fps if FPS_PLAUSIBLE[0] <= fps <= FPS_PLAUSIBLE[1] else FPS_DEFAULT)
        end_ns = self._clock.monotonic_ns() + self._config.timeout
        before_ns = now_ns = self._clock.monotonic_ns()
        while now_ns < end_ns and self._advance() is not None:
            before_ns, now_ns = now_ns, self._clock.monotonic_ns()
            if now_ns - before_ns >= LIVE_SHARE * period_ns:
                return

    def grab(self) -> Grab | None:
        """Raises DeviceError when the source ended, or was silent for the camera's time-out."""
        grabbed = super().grab()
        if grabbed is None or self._config.drop == "none":
            return grabbed
        end_ns, skipped = grabbed.arrival_ns + SKIP_MOST_NS, 0
        while grabbed.arrival_ns - grabbed.mono_ns > STALE_NS and grabbed.arrival_ns < end_ns:
            newer = super().grab()
            if newer is None:
                break
            grabbed, skipped = newer, skipped + 1
        return replace(grabbed, skipped=skipped)

    def _advance(self) -> Grab | None:
        # FFmpeg gives a key frame twice where parameter sets come with it: one moment of the camera is one picture
        # (RFC 6184, 5.1). A second repetition is a camera whose clock stands still.
        grabbed = super()._advance()
        return super()._advance() if grabbed is not None and self._repeated == 1 else grabbed

    def _stamp(self, capture: cv2.VideoCapture, arrival_ns: int) -> Grab:
        sent_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        self._repeated = self._repeated + 1 if sent_ns == self._sent_ns else 0
        self._sent_ns = sent_ns
        if self._repeated == 1:
            return Grab(arrival_ns, arrival_ns, "arrival")
        return Grab(arrival_ns - self._delay.of(sent_ns, arrival_ns), arrival_ns, "arrival")


class Delay:
    """How much later each frame came than the quickest one, by the camera's clock and ours, whose zeros and rates
    differ. That is the part of its age that can be known without a common clock."""

    # The quickest is slowly forgotten, faster than any two clocks drift apart (quartz: 0.01 %).
    FORGET: Final = 1e-3

    def __init__(self) -> None:
        self._sent_ns = self._arrival_ns = self._least_ns = 0
        self._known = False

    def of(self, sent_ns: int, arrival_ns: int) -> int:
        """Nanoseconds, at least 0. Stamps that go back, or do not move, begin anew: nothing is known then."""
        transit_ns = arrival_ns - sent_ns
        if self._known and sent_ns > self._sent_ns:
            forgotten_ns = round((arrival_ns - self._arrival_ns) * self.FORGET)
            self._least_ns = min(self._least_ns + forgotten_ns, transit_ns)
        else:
            self._least_ns = transit_ns
        self._sent_ns, self._arrival_ns, self._known = sent_ns, arrival_ns, True
        return transit_ns - self._least_ns
