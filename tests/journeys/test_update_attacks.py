"""Who has the broker, the web server, the clock's ear or the disk for a while: the device says what is wrong, and goes
on inferring with what it has.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_agent.rollouts import Release
from tests.simulators.agent_toml import DEVICE
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.disk import SmallDisk
from tests.simulators.ota_site import NAME, OtaSite, good
from tests.simulators.subscriber import Subscriber
from tests.simulators.tuf_repository import new_signer
from tests.simulators.update_server import UpdateServer
from tests.simulators.waiting import wait_for
from tests.simulators.web_server import Request

Attack = Callable[["Device"], AbstractContextManager[object]]
FACTORY = "1.1.0"


class Device(OtaSite):
    """Of a module's tests, one after the other: each leaves a good repository. It never runs but its factory model."""

    def __init__(self, folder: Path, start: Callable[..., Daemon], server: UpdateServer) -> None:
        super().__init__(folder, start, repository=server.url)
        self.server = server
        self.subscriber.wait_predictions(1)

    def lie(self, about: str, content: bytes) -> AbstractContextManager[None]:
        return self.server.lying(about, lambda request: request.answer("200 OK", content))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("device")

    def start(configuration: str) -> Daemon:
        (folder / "agent.toml").write_text(configuration)
        return Daemon(folder / "agent.toml", {})

    with UpdateServer(folder / "repository") as server:
        device = Device(folder, start, server)
        try:
            yield device
            assert device.daemon.stop() == 0, device.daemon.log
            stats = device.subscriber.payloads("/stats")[-1]
            assert not stats["crashes"]
            assert set(stats["pipelines"]["inspect"]["discards"]) <= {"shutdown"}
            assert device.versions() == {FACTORY}
        finally:
            device.close()


@pytest.fixture
def site(tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    site = OtaSite(tmp_path, daemon)
    yield site
    site.close()


# --- the repository is another's -------------------------------------------------------------------------------------


def _no_root(device: Device) -> AbstractContextManager[object]:
    return moved(device.root)


def _garbage(device: Device) -> AbstractContextManager[object]:
    return device.lie("timestamp", random.Random(5).randbytes(1000))


def _a_web_page(device: Device) -> AbstractContextManager[object]:
    return device.lie("", b"<html><title>Welcome to our hotel</title></html>")


def _endless_data(device: Device) -> AbstractContextManager[object]:
    def answer(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\n\r\n")
        request.for_ever(b'{"signed": ' + b" " * 2**16)

    return device.server.lying("timestamp", answer)


def _nothing_there(device: Device) -> AbstractContextManager[object]:
    return device.server.lying("", lambda request: request.answer("404 Not Found"))


def _a_server_that_fails(device: Device) -> AbstractContextManager[object]:
    return device.server.lying("", lambda request: request.answer("500 Internal Server Error"))


def _a_server_that_hangs_up(device: Device) -> AbstractContextManager[object]:
    return device.server.lying("", Request.hang_up)


def _sends_us_elsewhere(device: Device) -> AbstractContextManager[object]:
    said = "Location: http://localhost:1/"
    return device.server.lying("", lambda request: request.answer("302 Found", b"", said))


@contextlib.contextmanager
def _replayed_as_it_was(device: Device) -> Iterator[None]:
    old = device.folder / "old"
    shutil.copytree(device.repository.folder, old)
    device.publish("2.0.0")
    assert device.check()["check"]["ok"]
    device.server.folder = old
    try:
        yield
    finally:
        device.server.folder = device.repository.folder
        shutil.rmtree(old)


@contextlib.contextmanager
def _rollout_signed_by_a_wrong_key(device: Device) -> Iterator[None]:
    signers = device.repository.signers["rollouts"]
    device.repository.signers["rollouts"] = [new_signer()]
    device.repository.set_rollouts("main", [device.rollout(device.publish("2.0.0"))])
    try:
        yield
    finally:
        device.repository.signers["rollouts"] = signers
        device.repository.set_rollouts("main", [])


@contextlib.contextmanager
def _model_signed_by_a_wrong_key(device: Device) -> Iterator[None]:
    signers = device.repository.signers["models"]
    device.repository.signers["models"] = [new_signer()]
    device.repository.set_rollouts("main", [device.rollout(device.publish("2.0.0"))])
    try:
        yield
    finally:
        device.repository.signers["models"] = signers
        device.repository.set_rollouts("main", [])
        device.repository.publish("models")


@contextlib.contextmanager
def _nobody_has_signed_it_anew(device: Device) -> Iterator[None]:
    expires = device.repository.timestamp.expires
    device.repository.expire("timestamp")
    try:
        yield
    finally:
        device.repository.timestamp.expires = expires
        device.repository.publish("timestamp")


@contextlib.contextmanager
def _edited_by_hand(device: Device) -> Iterator[None]:
    device.repository.publish("timestamp")
    file = device.repository.metadata("timestamp.json")
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"version": ', b'"version": 9', 1))
    try:
        yield
    finally:
        file.write_bytes(content)


@contextlib.contextmanager
def _signed_and_no_rollouts(device: Device) -> Iterator[None]:
    device.repository.add_target("rollouts", "rollouts/main.json", b'{"rollouts": "all of them"}')
    try:
        yield
    finally:
        device.repository.set_rollouts("main", [])


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (_no_root, "no_root"),
        (_garbage, "metadata_refused"),
        pytest.param(_a_web_page, "metadata_refused", marks=pytest.mark.soak),
        (_endless_data, "metadata_refused"),
        (_nothing_there, "unreachable"),
        pytest.param(_a_server_that_fails, "unreachable", marks=pytest.mark.soak),
        (_a_server_that_hangs_up, "unreachable"),
        pytest.param(_sends_us_elsewhere, "unreachable", marks=pytest.mark.soak),
        (_replayed_as_it_was, "metadata_refused"),
        (_rollout_signed_by_a_wrong_key, "metadata_refused"),
        (_model_signed_by_a_wrong_key, "metadata_refused"),
        (_nobody_has_signed_it_anew, "metadata_expired"),
        (_edited_by_hand, "metadata_refused"),
        (_signed_and_no_rollouts, "rollout_refused"),
    ],
)
def test_a_repository_that_is_not_what_was_signed(attack: Attack, reason: str, device: Device) -> None:
    with attack(device):
        check = device.check()["check"]
        assert (check["ok"], check["reason"]) == (False, reason), check
        assert check["detail"]
        assert "\n" not in check["detail"]
        device.goes_on(2)


def test_after_all_of_that_a_good_repository_is_read_again(device: Device) -> None:
    device.repository.set_rollouts("main", [])
    assert device.check()["check"]["ok"]


@pytest.mark.soak
def test_a_server_that_is_slow_on_purpose_does_not_hold_the_device(device: Device) -> None:
    def answer(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        request.for_ever(b" ", every_s=0.5)

    with device.server.lying("timestamp", answer):
        device.ring()
        said = device.wait_status(lambda said: said["check"]["reason"] == "slow", "it gives up", 300)
    assert not said["check"]["ok"]
    device.goes_on()


# --- the model's bytes are others -----------------------------------------------------------------------------------


def _flipped(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_flipped, "hash"),
        (lambda content: content[:-1], "unreachable"),
        (lambda content: content + b"x", "unreachable"),
    ],
    ids=["other bytes", "too short", "too long"],
)
def test_other_bytes_than_the_signed_ones_never_become_a_model(
    change: Callable[[bytes], bytes], reason: str, device: Device
) -> None:
    content = good("2.0.0")
    release = device.publish("2.0.0", content)
    with device.lie(release.sha256, change(content)), offered(device, release):
        said = device.wait_status(lambda said: said["reason"] == reason, reason)
        assert said["state"] == "idle"
        device.goes_on(2)
    assert not list((device.update_folder / "slots").iterdir())


# --- signed, and not for this device ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("custom", "reason"),
    [({"profiles": ("coral-dev-board",)}, "profile"), ({"agent": "99.0"}, "agent")],
    ids=["another board", "a newer agent"],
)
def test_a_model_that_is_signed_for_others(custom: dict[str, Any], reason: str, device: Device) -> None:
    last = device.wait_end(device.roll_out(device.publish("3.0.0", **custom)))
    assert (last["state"], last["reason"]) == ("rejected", reason)
    device.goes_on(2)


# --- the broker is anybody's -----------------------------------------------------------------------------------------


def test_a_bell_that_anybody_rings_without_end_brings_nothing_but_a_look_now_and_then(device: Device) -> None:
    assert device.check()["check"]["ok"]
    looks = len(device.server.asked("timestamp"))
    stranger = Subscriber(device.broker.port, "edge-agent/_fleet/#", "another")
    for number in range(200):
        topic = "edge-agent/_fleet/update/bell" if number % 2 else f"edge-agent/{DEVICE}/update/bell"
        stranger.publish(topic, b'{"install": "http://evil.example/model.tflite"}' * 50)
    stranger.close()
    device.check()
    assert len(device.server.asked("timestamp")) - looks < 20
    device.goes_on(2)


def test_a_bell_that_is_retained_wakes_each_start_and_no_more(device: Device) -> None:
    device.say("bell", b"for ever", retain=True)
    assert device.daemon.stop() == 0
    before = device.status()["check"]["time"]
    device.start()
    said = device.wait_status(lambda said: said["check"]["time"] not in (before, None), "a look")
    assert said["check"]["ok"]
    device.say("bell", b"", retain=True)
    device.goes_on(2)


def test_who_holds_the_device_holds_it_for_a_day_at_most(device: Device) -> None:
    for payload, most in ((b'{"for": "2h"}', timedelta(hours=2)), (b'{"for": "1000h"}', timedelta(hours=24))):
        device.say("hold", payload)
        known = device.status().get("held_until")
        said = device.wait_status(lambda said, known=known: said["held_until"] not in (None, known), "a hold")
        left = datetime.fromisoformat(said["held_until"]) - datetime.now(timezone.utc)
        assert most - timedelta(minutes=5) < left <= most
    looks = len(device.server.asked("timestamp"))
    device.ring()
    device.say("hold", b'{"for": "a fortnight or so"}')
    wait_for(lambda: device.subscriber.events("command_refused"), "what makes no sense is refused")
    assert device.status()["held_until"] is not None
    device.goes_on(2)
    assert len(device.server.asked("timestamp")) == looks
    device.say("hold", b"")
    device.wait_status(lambda said: said["held_until"] is None, "it is let go")


# --- two owners ------------------------------------------------------------------------------------------------------


def test_of_two_rollouts_at_once_the_higher_number_counts(site: OtaSite) -> None:
    one = site.rollout(site.publish("2.0.0", seq=5))
    other = site.rollout(site.publish("3.0.0", seq=4))
    site.sign_rollouts(other, one)
    assert site.wait_end(other)["state"] == "committed"
    site.wait_version("3.0.0")
    assert site.check()["check"]["detail"] == "conveyor, rollout r2: done, runs 3.0.0"
    assert "2.0.0" not in site.versions()


def test_what_was_signed_long_ago_is_not_run_again(site: OtaSite) -> None:
    site.wait_end(site.roll_out(site.publish("2.0.0", seq=7)))
    last = site.wait_end(site.roll_out(site.publish("1.9.0", seq=6)))
    assert (last["state"], last["reason"]) == ("rejected", "sequence")
    assert site.current() == "2.0.0"


# --- the operator at the device --------------------------------------------------------------------------------------


def test_pinned_rolled_back_and_installed_from_a_stick_beside_the_running_daemon(site: OtaSite) -> None:
    assert asked(site, "pin", NAME) == "conveyor is pinned to what runs"
    rollout = site.roll_out(site.publish("2.0.0"))
    said = site.wait_status(lambda said: "pinned" in said["check"]["detail"], "the pin counts")
    assert said["models"][NAME]["pinned"]
    assert asked(site, "unpin", NAME) == "conveyor follows the rollouts again"
    assert site.wait_end(rollout)["state"] == "committed"
    asked(site, "rollback", NAME)
    said = site.wait_status(lambda said: (said["last"] or {}).get("reason") == "operator", "it went back")
    assert said["last"]["state"] == "rolled_back"
    site.wait_version(FACTORY)
    stick = site.folder / "stick"
    third = site.rollout(site.publish("3.0.0"))
    site.repository.set_rollouts("main", [third])
    shutil.move(site.repository.folder, stick)
    assert "3.0.0 is good to be fetched" in asked(site, "install", str(stick))
    assert site.wait_end(third)["state"] == "committed"
    site.wait_version("3.0.0")
    assert site.daemon.stop() == 0, site.daemon.log
    assert set(site.stats()["discards"]) <= {"shutdown"}


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "update", "4m") as disk:
        yield disk


@pytest.fixture
def cramped(disk: SmallDisk, tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    """Its folder of models is ``disk``."""
    site = OtaSite(tmp_path, daemon)
    yield site
    site.close()


def test_a_full_disk_puts_an_update_off_and_touches_nothing(cramped: OtaSite, disk: SmallDisk) -> None:
    disk.fill()
    rollout = cramped.roll_out(cramped.publish("2.0.0"))
    cramped.wait_status(lambda said: said["check"]["reason"] == "disk_full", "no room for metadata")
    disk.make_room()
    (cramped.update_folder / "much else").write_bytes(bytes(3 * 2**20))
    cramped.ring()
    said = cramped.wait_status(lambda said: said["check"]["ok"] and said["reason"] == "disk_full", "none for a model")
    assert "are free on this disk" in said["detail"]
    cramped.goes_on()
    (cramped.update_folder / "much else").unlink()
    cramped.ring()
    assert cramped.wait_end(rollout)["state"] == "committed"
    cramped.wait_version("2.0.0")


def test_on_a_disk_that_has_become_read_only_runs_what_there_was(cramped: OtaSite, disk: SmallDisk) -> None:
    cramped.wait_end(cramped.roll_out(cramped.publish("2.0.0")))
    cramped.wait_version("2.0.0")
    cramped.daemon.kill()
    disk.read_only()
    cramped.start()
    told = wait_for(lambda: cramped.subscriber.events("updates_off"), "the updates are off")
    assert "Read-only" in told[-1]["detail"]
    said = cramped.wait_status(lambda said: said["reason"] == "disk_failed", "what is wrong")
    assert (said["models"][NAME]["current"]["version"], said["check"]["ok"]) == ("2.0.0", False)
    seen = len(cramped.subscriber.predictions())
    cramped.goes_on()
    assert cramped.versions(seen) == {"2.0.0"}


# --- helpers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def moved(file: Path) -> Iterator[None]:
    aside = file.rename(file.with_suffix(".aside"))
    try:
        yield
    finally:
        aside.rename(file)


@contextlib.contextmanager
def offered(device: Device, release: Release) -> Iterator[None]:
    """Meanwhile it is rolled out."""
    rollout = device.roll_out(release)
    try:
        yield
    finally:
        device.sign_rollouts(replace(rollout, state="stopped"))
        device.wait_end(rollout)


def asked(site: OtaSite, *arguments: str) -> str:
    """What `edge-agent models` says of it."""
    path = max(site.folder.glob("agent*.toml"), key=lambda path: path.stat().st_mtime_ns)
    done = edge_agent(site.folder / "cache", "models", *arguments, "--config", path, "--json")
    said = json.loads(done.stdout)
    assert (said["ok"], said["by"]) == (True, "daemon"), done
    return str(said["text"])
