"""``edge-fleet push``: from nothing to a new model on a device, over the broker alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.schema import MqttConfig, UpdateConfig
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.fetch import create_source
from edge_agent.ports import Source
from edge_agent.rollouts import Reason
from fleet.commands import push
from fleet.releases import find_release
from fleet.repository import read_repository
from fleet.rollout_book import RolloutBook
from tests.fleet.repository_world import NOW
from tests.simulators.broker import Mosquitto
from tests.simulators.update_device import UpdateDevice
from tests.simulators.waiting import wait_for


class Pushing:
    """In a thread, as a person would leave it in a terminal."""

    def __init__(self, broker: Mosquitto, model: Path, *options: str) -> None:
        self.code: int | None = None
        self._argv = [str(model), "--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port), "--for", "60s", *options]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.code = push.main(self._argv)

    def ended(self) -> int | None:
        self._thread.join(90)
        return self.code


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and an empty folder of the user's data."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def model(example: Path) -> Path:
    return example / "model" / "conveyor.tflite"


@pytest.fixture
def devices() -> Iterator[list[UpdateDevice]]:
    made: list[UpdateDevice] = []
    yield made
    for one in made:
        one.close()


def over_mqtt(broker: Mosquitto, name: str) -> Source:
    config = UpdateConfig(repository="mqtt:")
    return create_source(config, MqttConfig(port=broker.port), Path(), f"edge-agent-{name}", f"edge-agent/{name}")


def test_the_first_push_makes_a_repository_and_brings_the_model_over_the_broker(
    broker: Mosquitto, home: Path, model: Path, devices: list[UpdateDevice], capfd: pytest.CaptureFixture[str]
) -> None:
    pushing = Pushing(broker, model, "--to", "device:line3-cam1", "--trial", "1s")
    repository = home / "data" / "edge-fleet" / "updates"
    root = repository / "metadata" / "1.root.json"
    wait_for(root.exists, "the root metadata")
    devices.append(
        UpdateDevice(
            broker.port,
            "line3-cam1",
            home,
            over_mqtt(broker, "line3-cam1"),
            root.read_bytes(),
            model="conveyor",
        )
    )
    assert pushing.ended() == 0
    assert devices[0].fetched == model.read_bytes()
    said = capfd.readouterr()
    assert str(root) in said.err
    assert "update-root.json" in said.err
    assert "line3-cam1  committed  runs 1.1.0" in said.out


def test_a_second_push_uses_what_is_there_and_tells_of_a_failure(
    broker: Mosquitto, home: Path, model: Path, devices: list[UpdateDevice]
) -> None:
    arguments = ["--repository", "mine", "--to", "device:a", "--max-failures", "0"]
    made = Pushing(broker, model, *arguments, "--for", "100ms")
    assert made.ended() == 1
    root = (home / "here" / "mine" / "metadata" / "1.root.json").read_bytes()
    devices.append(
        UpdateDevice(broker.port, "a", home, over_mqtt(broker, "a"), root, model="conveyor", fails=Reason.FRAMES_LOST)
    )
    assert Pushing(broker, model, *arguments, "--version", "2.0.0").ended() == 1
    rollouts = RolloutBook(read_repository(Path("mine"), NOW)).channel().rollouts
    assert [(one.id, one.state) for one in rollouts] == [
        ("conveyor-1.1.0-1", "active"),
        ("conveyor-2.0.0-2", "stopped"),
    ]


def test_a_push_takes_the_terms_of_a_rollout_and_the_boards_of_a_release(
    broker: Mosquitto, home: Path, model: Path
) -> None:
    terms = ["--share", "0.25", "--window", "02:00-05:00", "--not-before", "2027-01-01T02:00:00+02:00"]
    terms += ["--shadow", "30m", "--agreement", "0.9", "--percent", "50", "--profiles", "generic-x86"]
    assert Pushing(broker, model, "--to", "all", "--repository", "mine", "--for", "100ms", *terms).ended() == 1
    repository = read_repository(Path("mine"), NOW)
    (rollout,) = RolloutBook(repository).channel().rollouts
    assert (rollout.share, rollout.window, rollout.not_before) == (0.25, "02:00-05:00", "2027-01-01T00:00:00Z")
    assert (rollout.shadow_s, rollout.agreement, rollout.percent) == (1800.0, 0.9, 50.0)
    assert find_release(repository, "conveyor").profiles == ("generic-x86",)
    with pytest.raises(ConfigError, match="give --shadow"):
        push.main([str(model), "--to", "all", "--agreement", "0.9"])


def test_nothing_is_made_for_a_model_that_no_device_would_take(home: Path, model: Path) -> None:
    bad = home / "bad.tflite"
    bad.write_bytes(model.read_bytes()[:100_000])
    with pytest.raises(ModelError):
        push.main([str(bad), "--to", "device:a", "--name", "conveyor", "--version", "2"])
    with pytest.raises(ConfigError, match="--to"):
        push.main([str(model), "--to", "nobody"])
    assert not (home / "data").exists()


def test_a_folder_named_updates_here_comes_first(home: Path) -> None:
    assert push.default_repository() == home / "data" / "edge-fleet" / "updates"
    (Path("updates") / "metadata").mkdir(parents=True)
    assert push.default_repository() == Path("updates")
