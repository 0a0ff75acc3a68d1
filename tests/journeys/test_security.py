"""Nothing gets out that is nobody's business: no password by any way, and no picture over the wire."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from tests.simulators.agent_toml import DEVICE, MODEL, belt, camera, head, inspect, machine
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.certificates import Authority
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.peer import Peer
from tests.simulators.recording_proxy import RecordingProxy
from tests.simulators.shipped_broker import ShippedBroker
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

USER = DEVICE
SECRETS = {
    "broker": "Brk/9: sécret@1",
    "camera": "Cam+7? w0rd&x#",
    "query": "Qry5hidden",
}
BASE = f"edge-agent/{DEVICE}"


def spellings(secret: str) -> list[str]:
    """The ways in which programs write a password down."""
    encoded = [secret, f"{USER}:{secret}", f"user:{secret}"]
    return [
        *(secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret.encode())[2:-1]),
        *(base64.b64encode(text.encode()).decode().rstrip("=") for text in encoded),
        secret.encode().hex(),
    ]


def assert_no_secret(where: str, content: str | bytes) -> None:
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    for name, secret in SECRETS.items():
        for spelling in spellings(secret):
            assert spelling not in text, f"the {name}'s secret is in {where}, as {spelling!r}"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ShippedBroker]:
    """A broker that asks for passwords."""
    authority = Authority(tmp_path / "guarded")
    authority.issue("broker", "subjectAltName=IP:127.0.0.1")
    others = {"collector": "third", "operator": "fourth"}
    broker = ShippedBroker(tmp_path / "guarded" / "broker", authority, {USER: SECRETS["broker"], **others})
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def cameras() -> Iterator[tuple[MjpegServer, MjpegServer]]:
    """Two that ask for a password: ours, and another one."""
    good, other = MjpegServer(fps=10), MjpegServer(fps=10)
    good.credentials = ("user", SECRETS["camera"])
    other.credentials = ("user", "of somebody else")
    good.start()
    other.start()
    yield good, other
    good.stop()
    other.stop()


def secret_site(folder: Path, broker_port: int, good: MjpegServer, other: MjpegServer) -> str:
    """Every kind of password that a configuration can have, with cameras that take it, refuse it and are not there."""
    for name, secret in SECRETS.items():
        (folder / f"{name}-password").write_text(secret + "\n")
    login = ('username = "user"', f'password_file = "{folder}/camera-password"', 'timeout = "1s"')
    absent = f"127.0.0.1:{free_port()}"
    sources = {
        "front": camera("front", good.url, *login),
        "gate": camera("gate", other.url, *login),
        "yard": camera("yard", f"http://{absent}/video?user=me&pwd={SECRETS['query']}"),
        "dock": camera("dock", f"rtsp://{absent}/main", *login),
    }
    mqtt = (f'username = "{USER}"', f'password_file = "{folder}/broker-password"')
    pipelines = "".join(inspect(f"of-{name}", name, 'rate = "5/s"') for name in sources)
    durable = f'[outbox]\npath = "{folder}/outbox.sqlite"\ndurability = "every"\n[log]\nlevel = "debug"\n'
    tls = f'[mqtt.tls]\nca = "{folder}/guarded/ca.pem"\n'
    return head(broker_port, *mqtt) + tls + "".join(sources.values()) + machine() + pipelines + MODEL + durable


def _processes(pid: int) -> list[int]:
    """It and its children, theirs too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _processes(int(child)))]


def test_no_secret_is_in_logs_topics_process_tables_answers_files_or_a_crash(
    tmp_path: Path,
    guarded: ShippedBroker,
    cameras: tuple[MjpegServer, MjpegServer],
    daemon: Callable[..., Daemon],
) -> None:
    good, other = cameras
    observer = Peer(guarded.port, tmp_path / "guarded", login=("collector", "third"))
    observer.subscribe("edge-agent/#")
    operator = Peer(guarded.port, tmp_path / "guarded", login=("operator", "fourth"))
    text = secret_site(tmp_path, guarded.port, good, other)
    process = daemon(text, PYTHONFAULTHANDLER="1", STATE_DIRECTORY=str(tmp_path / "state"))
    for camera_name in ("gate", "yard", "dock"):
        wait_for(lambda name=camera_name: _event_about(observer, name), f"news of {camera_name}")  # type: ignore[misc]
    observer.wait_topic(f"{BASE}/prediction/of-front")
    operator.publish(f"{BASE}/request/info", "")
    observer.wait_topic(f"{BASE}/response/info")
    good.mode = "corrupt"
    with pytest.raises(AssertionError, match="the camera's secret"):  # it would be found
        assert_no_secret("the password file", (tmp_path / "camera-password").read_bytes())
    for pid in _processes(process.process.pid):
        assert_no_secret("the command line", Path(f"/proc/{pid}/cmdline").read_bytes())
        assert_no_secret("the environment", Path(f"/proc/{pid}/environ").read_bytes())
    (tmp_path / "broker-password").write_text("now another one\n")
    process.process.send_signal(signal.SIGHUP)
    for command in (("check",), ("check", "--devices"), ("doctor",)):
        (tmp_path / "checked.toml").write_text(text)
        for form in ((), ("--json",)):
            done = edge_agent(tmp_path / "cache", *command, *form, "--config", tmp_path / "checked.toml")
            assert_no_secret(" ".join((*command, *form)), done.stdout + done.stderr)
    guarded.freeze()  # so that something waits on the disk
    process.process.send_signal(signal.SIGABRT)
    assert process.wait_exit() == -signal.SIGABRT
    guarded.thaw()
    assert "Fatal Python error: Aborted" in process.log
    assert_no_secret("the log", process.log)
    for topic, payload in observer.heard():
        assert_no_secret(topic, payload)
    operator.close()
    observer.close()
    for folder in ("state", "cache"):
        for path in (tmp_path / folder).rglob("*"):
            if path.is_file():
                assert_no_secret(path.name, path.read_bytes())
    stored = list(tmp_path.glob("outbox.sqlite*"))
    assert stored, "nothing was stored"
    for path in stored:
        assert_no_secret(path.name, path.read_bytes())


def _event_about(observer: Peer, camera_name: str) -> bool:
    events = [json.loads(payload) for topic, payload in observer.heard() if topic == f"{BASE}/event"]
    return any(camera_name in event["subject"] for event in events)


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("scheme", ["rtsp", "https"])
def test_a_password_in_an_address_stops_the_start_and_is_not_repeated(
    scheme: str, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.toml"
    source = f"{scheme}://admin:{SECRETS['query']}@camera.example/main"
    path.write_text(head(free_port()) + camera("belt", source) + machine() + inspect() + MODEL)
    ended = edge_agent(tmp_path, command, "--config", path)
    assert ended.returncode == 2
    assert "set username and password_file" in ended.stderr
    assert_no_secret("what is said", ended.stdout + ended.stderr)


WINDOW = 64
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8")
PAYLOAD_MOST = 8192  # bytes


def blocks_of(pictures: list[Path]) -> set[bytes]:
    """Consecutive blocks of WINDOW bytes of everything that a picture is on its way through the daemon, and of its
    base64. Whatever has twice that length in common with one of them holds a whole block."""
    blocks: set[bytes] = set()
    for path in pictures:
        file, bgr = path.read_bytes(), cv2.imread(str(path))
        assert bgr is not None
        smaller = [cv2.resize(bgr, size) for size in ((160, 120), (96, 96))]
        forms = [file, *(form.tobytes() for one in (bgr, *smaller) for form in (one, one[..., ::-1], one[..., 1]))]
        forms += [np.float32(bgr / 255).tobytes()]
        for form in forms + [base64.b64encode(form) for form in forms[:2]]:
            blocks.update(form[at : at + WINDOW] for at in range(0, len(form) - WINDOW, WINDOW))
    return blocks


def holds_one(traffic: bytes, blocks: set[bytes]) -> bool:
    return any(traffic[at : at + WINDOW] in blocks for at in range(len(traffic) - WINDOW + 1))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_no_picture_leaves_the_device(
    protocol: str, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], example: Path
) -> None:
    proxy = RecordingProxy(broker.port)
    process = daemon(head(proxy.port, f'protocol = "{protocol}"') + belt() + machine("media") + inspect() + MODEL)
    subscriber.wait_predictions(40)
    assert process.stop() == 0, process.log
    proxy.stop()
    pictures = sorted((example / "media" / "frames").glob("*.jpg"))[:20]
    blocks = blocks_of(pictures)
    assert holds_one(b"{" + pictures[3].read_bytes()[100:300] + b"}", blocks)  # it would be found
    assert b"prediction/inspect" in proxy.sent
    for traffic in (proxy.sent, proxy.received):
        assert not any(signature in traffic for signature in SIGNATURES)
        assert not holds_one(traffic, blocks)
    assert max(len(payload) for _, payload, _ in subscriber.raw()) < PAYLOAD_MOST
    received = sum(len(topic) + len(payload) for topic, payload, _ in subscriber.raw())
    assert len(proxy.sent) < 2 * received  # and nothing else went beside what the broker forwarded
