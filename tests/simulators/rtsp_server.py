"""A real RTSP camera: Debian's gst-rtsp-server in a process of its own, which a test kills, freezes and brings back.

Run as a script it is that process (with the system's Python, where ``gi`` is); imported, it is the handle on it.
The number in each picture is CLOCK_MONOTONIC in milliseconds (32 bits) at which it was made: one clock for all
processes of a machine, so that a reader can tell a picture's age.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)] if __name__ == "__main__" else []

from tests.simulators.stamped_picture import BITS, grey_bytes  # noqa: E402

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-ugly"
WIDTH, HEIGHT = 256, 160
WIDER, NARROWER = 512, 128  # of the same height: the shape changes too


def why_missing() -> str | None:
    """The reason why no RTSP server can be started here, None when one can."""
    script = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
        "Gst.init(None); raise SystemExit(0 if Gst.ElementFactory.find('x264enc') else 1)"
    )
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", script], capture_output=True, timeout=60, check=False)
    except OSError:
        return f"{SYSTEM_PYTHON} is not there"
    return None if found.returncode == 0 else f"no RTSP server: apt-get install {PACKAGES}"


def now_stamp() -> int:
    """The number that a picture made at this moment carries."""
    return time.monotonic_ns() // 10**6 % (1 << BITS)


class RtspServer:
    """``url`` is H.264 over RTSP, 256 x 160 at ``fps``. Killed and started again, it keeps its port."""

    def __init__(self, fps: int = 30, credentials: tuple[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._fps = fps
        self._credentials = credentials
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/cam"

    def start(self) -> None:
        """Returns when it listens."""
        command = [SYSTEM_PYTHON, __file__, str(self._port), str(self._fps), *(self._credentials or ())]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the RTSP server ended with {self._process.wait()}")

    def kill(self) -> None:
        """End it at once (SIGKILL), frozen or not. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Connections stay open, nothing moves (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def resize(self, width: int) -> None:
        """In the middle of the stream: WIDER or NARROWER."""
        self._signal({WIDER: signal.SIGUSR1, NARROWER: signal.SIGUSR2}[width])

    def _signal(self, number: int) -> None:
        assert self._process is not None, "not started"
        os.kill(self._process.pid, number)

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def serve(port: str, fps: int, credentials: list[str]) -> None:
    """The process itself: never returns."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)

    width = WIDTH

    def caps() -> str:
        return f"video/x-raw,format=GRAY8,width={width},height={HEIGHT},framerate={fps}/1"

    def resize(wanted: int) -> bool:
        nonlocal width
        width = wanted
        return True

    for number, wanted in ((signal.SIGUSR1, WIDER), (signal.SIGUSR2, NARROWER)):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, resize, wanted)

    def push(source: object) -> bool:
        picture = Gst.Buffer.new_wrapped(grey_bytes(now_stamp(), width, HEIGHT))
        sample = Gst.Sample.new(picture, Gst.Caps.from_string(caps()), None, None)
        source.emit("push-sample", sample)  # type: ignore[attr-defined]
        return True  # also where the source is not yet, or no longer, taking pictures

    def configure(_factory: object, media: object) -> None:
        source = media.get_element().get_child_by_name("source")  # type: ignore[attr-defined]
        timer = GLib.timeout_add(1000 // fps, push, source)
        media.connect("unprepared", lambda _media: GLib.source_remove(timer))  # type: ignore[attr-defined]

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=source is-live=true format=time do-timestamp=true caps={caps()} "
        "! videoconvert ! video/x-raw,format=I420 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} "
        "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", configure)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    if credentials:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth = GstRtspServer.RTSPAuth()
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*credentials), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
