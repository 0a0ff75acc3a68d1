"""TLS with a client certificate, user and password: the right ones work, each wrong one is said and waited for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.simulators.agent_toml import MODEL, belt, inspect, machine
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.certificates import Authority
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

USER, PASSWORD = "line1-cam", "p@ss: wörd"
LINE = belt() + machine("media") + inspect() + MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the files of a secured set-up, and those of a stranger's."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    authority.issue("broker", "subjectAltName=IP:127.0.0.1")
    authority.issue("device")
    Authority(folder / "stranger")
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong").write_text("guess\n")
    subprocess.run(["mosquitto_passwd", "-c", "-b", folder / "users", USER, PASSWORD], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def strict(folder: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(
        folder / "broker",
        f"allow_anonymous false\npassword_file {folder}/users\ncafile {folder}/ca.pem\ncertfile {folder}/broker.pem\n"
        f"keyfile {folder}/broker.key\nrequire_certificate true\n",
    )
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def heard(folder: Path, strict: Mosquitto) -> Iterator[list[str]]:
    """Topics that the owner of the broker hears."""
    topics: list[str] = []
    owner = paho.Client(CallbackAPIVersion.VERSION2)
    owner.username_pw_set(USER, PASSWORD)
    owner.tls_set(str(folder / "ca.pem"), str(folder / "device.pem"), str(folder / "device.key"))
    owner.on_connect = lambda client, *_: client.subscribe("#", qos=1)
    owner.on_message = lambda _client, _data, message: topics.append(message.topic)
    owner.connect("127.0.0.1", strict.port)
    owner.loop_start()
    yield topics
    owner.disconnect()
    owner.loop_stop()


def configuration(port: int, password: str = "password", ca: str = "ca.pem", certificate: str = "device") -> str:
    return (
        f'[device]\nid = "line1"\n[mqtt]\nport = {port}\nusername = "{USER}"\npassword_file = "{password}"\n'
        'base_topic = "plant/hall-1"\n'
        f'[mqtt.tls]\nca = "{ca}"\ncertificate = "{certificate}.pem"\nkey = "{certificate}.key"\n' + LINE
    )


def test_a_daemon_with_certificate_and_password_delivers_under_the_base_topic(
    folder: Path, strict: Mosquitto, heard: list[str]
) -> None:
    path = folder / "agent.toml"
    path.write_text(configuration(strict.port))
    daemon = Daemon(path, {})
    try:
        wait_for(lambda: "plant/hall-1/line1/prediction/inspect" in heard, "a prediction")
        assert daemon.stop() == 0, daemon.log
    finally:
        daemon.kill()
    assert PASSWORD not in daemon.log


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "password": ({"password": "wrong"}, "refused the connection"),
    "authority": ({"ca": "stranger/ca.pem"}, "can't be reached"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_broker_does_not_accept_is_said_and_tried_again(
    what: str, folder: Path, strict: Mosquitto, run_daemon: Callable[[str], Daemon]
) -> None:
    keys, words = WRONG[what]
    attempts = _attempts(folder)
    daemon = run_daemon(configuration(strict.port, **keys))
    wait_for(lambda: words in daemon.log, f"{words!r} in the log")
    wait_for(lambda: _attempts(folder) >= attempts + 2, "a second attempt, as the broker saw it")
    assert daemon.stop() == 0, daemon.log
    assert "guess" not in daemon.log
    checked = edge_agent(folder, "check", "--devices", "--config", folder / "wrong.toml")
    assert checked.returncode == 0  # a broker that is away does not keep the daemon from starting
    assert words in checked.stdout


def _attempts(folder: Path) -> int:
    """Connections that the broker saw, those whose handshake failed too."""
    return (folder / "broker" / "mosquitto.log").read_text().count("connection from 127.0.0.1")


@pytest.fixture
def run_daemon(folder: Path) -> Iterator[Callable[[str], Daemon]]:
    started: list[Daemon] = []

    def start(text: str) -> Daemon:
        path = folder / "wrong.toml"
        path.write_text(text)
        started.append(Daemon(path, {}))
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()


def test_a_certificate_that_is_none_stops_the_start_and_names_the_keys(folder: Path, strict: Mosquitto) -> None:
    (folder / "broken.pem").write_text("no certificate\n")
    (folder / "broken.key").write_text("no key\n")
    path = folder / "broken.toml"
    path.write_text(configuration(strict.port, certificate="broken"))
    ended = edge_agent(folder, "run", "--config", path)
    assert ended.returncode == 2
    assert "check ca, certificate and key" in ended.stderr
    assert "Traceback" not in ended.stderr


BAD: dict[str, str] = {
    "expired": "expired",
    "early": "not valid yet|not yet valid",
    "renamed": "mismatch",
    "foreign": "certificate chain|issuer",
    "own": "self-signed",
}
"""What is wrong with the broker's certificate -> the words that have to say so."""


@pytest.fixture
def certificates(folder: Path) -> Authority:
    """``BAD`` ones by their names, and ``good``."""
    here = Authority(folder / "distrusted")
    name = "subjectAltName=IP:127.0.0.1"
    here.issue("good", name)
    here.issue("expired", name, valid=("20200101000000Z", "20200201000000Z"))
    here.issue("early", name, valid=("20900101000000Z", "20900201000000Z"))
    here.issue("renamed", "subjectAltName=IP:127.0.0.2,DNS:elsewhere")
    here.self_signed("own", name)
    stranger = Authority(folder / "foreign")
    stranger.issue("foreign", name)
    for suffix in ("pem", "key"):
        shutil.copy(stranger.folder / f"foreign.{suffix}", here.folder)
    return here


def test_a_broker_that_can_not_be_trusted_gets_nothing_until_it_can(
    certificates: Authority, daemon: Callable[[str], Daemon]
) -> None:
    """One broker with a listener for each bad certificate; a daemon, and ``doctor``, for each listener."""
    here, ports = certificates.folder, {name: free_port() for name in BAD}
    broker = Mosquitto(
        here / "broker",
        "".join(
            f"listener {port} 127.0.0.1\ncertfile {here}/{name}.pem\nkeyfile {here}/{name}.key\n"
            for name, port in ports.items()
        ),
    )
    broker.start()
    observer = Subscriber(broker.port)
    texts = {
        name: f'[device]\nid = "{name}"\n[mqtt]\nport = {port}\n[mqtt.tls]\nca = "{here}/ca.pem"\n' + LINE
        for name, port in ports.items()
    }
    reasons = {name: re.compile(f"can't be reached.*({words})") for name, words in BAD.items()}
    for name, reason in reasons.items():
        (here / "doctor.toml").write_text(texts[name])
        shown = json.loads(edge_agent(here, "doctor", "--json", "--config", here / "doctor.toml").stdout)
        said = "; ".join(check["detail"] for check in shown["checks"] if check["id"] == "broker")
        assert reason.search(said), f"{name}: {said}"
    daemons = {name: daemon(text) for name, text in texts.items()}
    wait_for(lambda: all(reasons[name].search(daemons[name].log) for name in BAD), "the reasons in the logs")
    assert observer.raw() == []
    broker.stop()
    for name in BAD:
        for suffix in ("pem", "key"):
            shutil.copy(here / f"good.{suffix}", here / f"{name}.{suffix}")
    broker.start()
    wait_for(lambda: all(observer.raw(f"/{name}/prediction/") for name in BAD), "predictions of each")
    for process in daemons.values():
        assert process.stop() == 0, process.log
    observer.close()
    broker.stop()


def test_plain_mqtt_to_another_machine_stops_the_start_unless_it_is_accepted(folder: Path) -> None:
    path = folder / "plain.toml"
    path.write_text('[mqtt]\nhost = "192.0.2.1"\n' + LINE)
    ended = edge_agent(folder, "run", "--config", path)
    assert ended.returncode == 2
    assert "insecure = true" in ended.stderr
    assert "[mqtt.tls]" in ended.stderr
