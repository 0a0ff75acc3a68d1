"""The way between a daemon and its broker, which a test disturbs: a real cable into a network of its own, and a TCP
proxy for what a cable can't do (slow answers, a port that refuses, a connection that stays and carries nothing)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import pytest

from tests.simulators.waiting import wait_for

Direction = Literal["up", "down"]
"""``up``: to the broker."""

NOWHERE = "02:00:00:00:00:01"  # nobody's hardware address: what is sent there is lost without a word
CLONE_NEWNET = 0x40000000
HANG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR
LOOK_MS = 20


class Cable:
    """A pair of network interfaces; the broker listens at ``address``, daemons are started ``at_the_far_end``.

    Skips the test where nobody may make networks.
    """

    def __init__(self) -> None:
        missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
        if os.geteuid() != 0 or missing:
            pytest.skip(f"a network of its own needs root and iproute2, util-linux (missing: {missing})")
        number = os.getpid()
        subnet = f"10.231.{number // 64 % 256}."
        host = number % 64 * 4
        self.address, self._far = f"{subnet}{host + 1}", f"{subnet}{host + 2}"
        self._near_end, self._far_end = f"ea{number}n", f"ea{number}f"
        self._keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._network = Path(f"/proc/{self._keeper.pid}/ns/net")
        ours = Path("/proc/self/ns/net").readlink()
        try:
            wait_for(lambda: self._network.exists() and self._network.readlink() != ours, "a network namespace")
            pair = ["type", "veth", "peer", "name", self._far_end, "netns", str(self._keeper.pid)]
            made = subprocess.run(
                ["ip", "link", "add", self._near_end, *pair], capture_output=True, text=True, check=False
            )
            if made.returncode:
                pytest.skip(f"no veth interfaces here: {made.stderr.strip()}")
            self._near("addr", "add", f"{self.address}/30", "dev", self._near_end)
            self._near("link", "set", self._near_end, "up")
            self._there("link", "set", "lo", "up")  # programs talk to themselves over it
            self._there("addr", "add", f"{self._far}/30", "dev", self._far_end)
            self._there("link", "set", self._far_end, "up")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The interfaces go with the network, once nobody is left in it."""
        self._keeper.kill()
        self._keeper.wait(20)

    def __enter__(self) -> Cable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def at_the_far_end(self) -> Iterator[None]:
        """Processes that this thread starts meanwhile live behind the cable."""
        with Path("/proc/thread-self/ns/net").open() as home, self._network.open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def cut(self, *directions: Direction) -> None:
        """Without a direction the plug is pulled, and both ends see it. With one nobody sees anything: what is sent
        that way is lost."""
        if not directions:
            self._near("link", "set", self._near_end, "down")
        if "up" in directions:
            self._there("neigh", "replace", self.address, "lladdr", NOWHERE, "dev", self._far_end, "nud", "permanent")
        if "down" in directions:
            self._near("neigh", "replace", self._far, "lladdr", NOWHERE, "dev", self._near_end, "nud", "permanent")

    def mend(self) -> None:
        self._near("link", "set", self._near_end, "up")
        self._near("neigh", "flush", "dev", self._near_end, "nud", "permanent")
        self._there("neigh", "flush", "dev", self._far_end, "nud", "permanent")

    def _near(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def _there(self, *arguments: str) -> None:
        enter = ["nsenter", f"--net={self._network}"]
        subprocess.run([*enter, "ip", *arguments], check=True, capture_output=True)


def _enter(network: int) -> None:
    """This thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Link:
    """A TCP proxy on ``port`` before the broker at ``target`` on loopback.

    ``hold`` leaves connections open, old and new ones, and lets nothing through in these directions; what waits goes
    on after ``pass_on``, but for connections that their client has given up by then. ``answer_delay_s``: the broker's
    bytes go on no oftener than that.
    """

    def __init__(self, target: int) -> None:
        self.answer_delay_s = 0.0
        self._target = target
        self._changed = threading.Condition()
        self._held: frozenset[Direction] = frozenset()
        self._pairs: set[_Pair] = set()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._begin_to_accept(self._listener)

    def hold(self, *directions: Direction) -> None:
        """Without a direction, both."""
        self._held = frozenset(directions or ("up", "down"))

    def pass_on(self) -> None:
        self._held = frozenset()

    def cut(self) -> None:
        """All connections break (RST)."""
        with self._changed:
            pairs = set(self._pairs)
        for pair in pairs:
            pair.end(reset=True)

    def refuse(self) -> None:
        """Nobody listens any more, and the connections break."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._listener.close()
            self._listener = None
        self.cut()

    def accept(self) -> None:
        """As before ``refuse``."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._begin_to_accept(self._listener)

    def close(self) -> None:
        self._stopping.set()
        self.refuse()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_to_accept(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), name="link", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # refuse() or close()
            try:
                broker = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            pair = _Pair(client, broker)
            with self._changed:
                self._pairs.add(pair)
            ways: tuple[tuple[socket.socket, socket.socket, Direction], ...]
            ways = ((client, broker, "up"), (broker, client, "down"))
            for source, sink, direction in ways:
                arguments = (pair, source, sink, direction)
                threading.Thread(target=self._carry, args=arguments, name="link", daemon=True).start()

    def _carry(self, pair: _Pair, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while data := source.recv(2**16):
                if direction == "down" and self.answer_delay_s:
                    self._stopping.wait(self.answer_delay_s)
                if not self._wait_while_held(pair, direction):
                    break
                sink.sendall(data)
        except (OSError, ValueError):  # ValueError: poll, of a socket that is closed
            pass  # one of the two ends is gone, or the link was cut
        pair.end(reset=False)
        with self._changed:
            self._pairs.discard(pair)

    def _wait_while_held(self, pair: _Pair, direction: Direction) -> bool:
        """False: it is over with this connection."""
        poll = select.poll()
        poll.register(pair.client, HANG_UP)
        while direction in self._held and not self._stopping.is_set():
            if poll.poll(LOOK_MS):
                return False
        return not self._stopping.is_set()


class _Pair:
    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client, self.broker = client, broker

    def end(self, *, reset: bool) -> None:
        """From any thread, also twice."""
        for one in (self.client, self.broker):
            with contextlib.suppress(OSError):  # that side went first
                if reset:  # lingering for 0 s makes close() send RST, once nobody waits for the socket any more
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RD)
                else:
                    one.shutdown(socket.SHUT_RDWR)
        if not reset:
            return
        for one in (self.client, self.broker):
            one.close()
