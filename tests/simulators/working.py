"""A whole site for the tests of one module: a broker, a stranger who hears everything, and a daemon at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulators.agent_toml import head
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for


@contextmanager
def working(
    folder: Path, configuration: str, before: Callable[[Subscriber], None] = lambda _: None
) -> Iterator[tuple[Daemon, Subscriber]]:
    """``configuration`` lacks ``[device]`` and ``[mqtt]``. ``before``: what the stranger does before the daemon starts.

    The daemon is online when the block begins and must end well with it.
    """
    broker = Mosquitto(folder / "broker")
    broker.start()
    subscriber = Subscriber(broker.port)
    before(subscriber)
    path = folder / "agent.toml"
    path.write_text(head(broker.port) + configuration)
    daemon = Daemon(path, {})
    try:
        daemon.wait_ready()
        wait_for(lambda: subscriber.raw("/availability"), "the daemon is online")
        yield daemon, subscriber
        assert daemon.stop() == 0, daemon.log
    finally:
        daemon.kill()
        subscriber.close()
        broker.stop()
