"""Fixtures that more than one folder of tests uses: the shared data, a broker of its own, a daemon under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.delegate import Bus
from tests.simulators.subscriber import Subscriber

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of what back-ends were tried: not the one of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Public models, pictures and recordings that are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the shared test data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def example() -> Path:
    return ROOT / "examples" / "conveyor"


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """Devices for the test delegate, which is told of it by its option "bus"."""
    made = Bus(tmp_path / "bus")
    made.plug()
    return made


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path / "broker")
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    reader = Subscriber(broker.port)
    yield reader
    reader.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A factory: configuration text -> a running ``edge-agent run``. All are stopped at the end."""
    daemons: list[Daemon] = []

    def start(configuration: str, **environment: str) -> Daemon:
        path = tmp_path / f"agent{len(daemons)}.toml"
        path.write_text(configuration)
        daemons.append(Daemon(path, environment))
        return daemons[-1]

    yield start
    for process in daemons:
        process.kill()
