"""The commands as they are typed: init, publish, rollout and what follows, keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fleet.__main__ import main
from tests.fleet.repository_world import Device
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.pushed import MODEL, pushed
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command's standard output; it must end with 0."""

    def call(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return call


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Run:
    """One line on standard error; it must end with 2."""

    def call(*arguments: object) -> str:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert code == 2
        return said.err.strip().splitlines()[-1]

    return call


@pytest.fixture
def repo(tmp_path: Path, run: Run) -> Path:
    run("init", tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def filled(repo: Path, tmp_path: Path, run: Run) -> Path:
    """With hall@1.0.0 and hall@2.0.0."""
    for number in (1, 2):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(pushed(lambda card, number=number: card.update(version=f"{number}.0.0")))
        run("publish", repo, path, "--name", "hall", "--unchecked")
    return repo


def test_init_says_what_devices_need_and_which_keys_belong_offline(tmp_path: Path, run: Run) -> None:
    said = run("init", tmp_path / "repo", "--preset", "fleet", "--url", "https://models.example.org/")
    for words in (
        "repo/metadata/1.root.json to update-root.json",
        'repository = "https://models.example.org/"',
        "models-1.pem, rollouts-1.pem, root-1.pem, root-2.pem, root-3.pem, targets-1.pem",
        "edge-fleet publish",
    ):
        assert words in said
    found = json.loads(run("init", tmp_path / "other", "--json"))
    assert found["schema"] == "edge-fleet/init/1" and found["offline"] == []
    assert Path(found["root"]).exists()


def test_a_model_is_examined_named_by_its_card_and_signed(repo: Path, tmp_path: Path, run: Run) -> None:
    conditions = ("--p95-ms", 9000, "--profiles", "raspberry-pi-5,generic-x86")
    found = json.loads(run("publish", repo, MODEL, *conditions, "--json"))
    assert found["evidence"]["golden_samples"] == 5
    assert (found["name"], found["seq"], found["new"]) == ("conveyor", 1, True)
    device = Device(tmp_path / "device", repo, (repo / "metadata/1.root.json").read_bytes())
    release, content = device.fetch(found["target"], at=datetime.now(timezone.utc))
    assert content == MODEL.read_bytes()
    assert (release.version, release.p95_ms) == (found["version"], 9000.0)
    assert release.profiles == ("raspberry-pi-5", "generic-x86")


def test_a_model_that_no_device_would_take_is_not_signed(repo: Path, tmp_path: Path, fails: Run) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(pushed(without=("edge-agent/golden.npz",)))
    assert "not published, no device would take it (golden)" in fails("publish", repo, bad)
    bad.write_bytes(b"no model")
    assert "is not a TFLite model" in fails("publish", repo, bad)
    assert not list((repo / "targets").rglob("*.tflite"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "Hall"), "name 'Hall'"),
        (("--version", "../x"), "version '../x'"),
        (("--p95-ms", "0"), "above 0"),
        (("--keys", "/nowhere"), "no such folder"),
        (("--profiles", "generic-x86,raspbery-pi-5"), 'did you mean "raspberry-pi-5"?'),
        (("--profiles", "generic-x86,"), "no such profile"),
        (("--vers", "2"), "unrecognized arguments"),
    ],
)
def test_what_publish_does_not_take(repo: Path, fails: Run, arguments: tuple[str, ...], says: str) -> None:
    assert says in fails("publish", repo, MODEL, "--unchecked", *arguments)


def test_a_rollout_is_begun_changed_and_turned_back(filled: Path, run: Run) -> None:
    first = json.loads(run("rollout", filled, "hall@1.0.0", "--to", "all", "--json"))
    text = run("rollout", filled, "hall", "--to", "device:a,b", "--to", "group:g", "--percent", "10%", "--trial", "5m")
    assert (
        text.startswith("hall-2.0.0-2: hall 2.0.0 to device:a,b, group:g, 10 %; devices see it at their next poll\n")
        and "they always are" in text
    )
    later = "devices see it at their next poll"
    assert run("pause", filled, "hall-2.0.0-2") == f"hall-2.0.0-2 is paused; {later}\n"
    assert run("resume", filled, "hall") == f"hall-2.0.0-2 goes on; {later}\n"
    assert run("promote", filled, "hall", "--percent", 50) == f"hall-2.0.0-2 means 50 % of its devices now; {later}\n"
    back = json.loads(run("rollback", filled, "hall", "--json"))
    assert (back["stopped"], back["sha256"]) == ("hall-2.0.0-2", first["sha256"])
    assert "is stopped" in run("rollback", filled, back["rollout"], "--stop-only")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hall", "--to", "everybody"), "expected device:NAME"),
        (("hall@9", "--to", "all"), "it has: 1.0.0, 2.0.0"),
        (("hall", "--to", "all", "--percent", "0"), "above 0, at most 100"),
        (("hall", "--to", "all", "--percent", "nan"), "above 0, at most 100"),
        (("hall", "--to", "all", "--share", "0"), "above 0, at most 1"),
        (("hall", "--to", "all", "--window", "2-5"), "not a window"),
        (("hall", "--to", "all", "--not-before", "2027-01-01T00:00:00"), "with its zone"),
        (("hall", "--to", "all", "--agreement", "0.9"), "give --shadow"),
        (("hall", "--to", "all", "--max-failures", "-1"), "0 or more"),
        (("hall", "--to", "all", "--channel", "A B"), "--channel"),
        (("hall",), "--to"),
    ],
)
def test_what_rollout_does_not_take(filled: Path, fails: Run, arguments: tuple[str, ...], says: str) -> None:
    assert says in fails("rollout", filled, *arguments)


def test_times_with_a_zone_are_signed_in_utc(filled: Path, run: Run) -> None:
    run(
        "rollout", filled, "hall", "--to", "all", "--not-before", "2027-01-01T02:00:00+02:00", "--window", "22:00-04:00"
    )
    (path,) = (filled / "targets/rollouts").iterdir()
    (found,) = json.loads(path.read_text())["rollouts"]
    assert (found["not_before"], found["window"]) == ("2027-01-01T00:00:00Z", "22:00-04:00")


def test_the_bell_rings_where_the_broker_is_known(
    filled: Path, run: Run, broker: Mosquitto, subscriber: Subscriber
) -> None:
    def rung() -> set[str]:
        return {topic for topic, _, _ in subscriber.raw("/update/bell")}

    port = ("--mqtt-host", "127.0.0.1", "--mqtt-port", broker.port)
    assert "the devices were woken" in run("rollout", filled, "hall", "--to", "device:a,b", *port)
    wait_for(lambda: rung() == {"edge-agent/a/update/bell", "edge-agent/b/update/bell"}, "two bells")
    settings = filled.with_name("repo.private") / "fleet.toml"
    settings.write_text(f'{settings.read_text()}\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n')
    assert "the devices were woken" in run("rollout", filled, "hall", "--to", "all")
    wait_for(lambda: "edge-agent/_fleet/update/bell" in rung(), "the bell of all")


def test_a_broker_that_is_away_does_not_undo_what_was_signed(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rollout", filled, "hall", "--to", "all", "--mqtt-host", "127.0.0.1", "--mqtt-port", free_port()]
    assert main([str(argument) for argument in arguments]) == 0
    assert "see it at their next poll" in capsys.readouterr().err
    assert len(list((filled / "targets/rollouts").iterdir())) == 1


def test_keys_are_listed_rotated_revoked_and_refreshed(tmp_path: Path, run: Run, fails: Run) -> None:
    repo = tmp_path / "repo"
    run("init", repo, "--preset", "fleet")
    assert "2 of 3: root-1, root-2, root-3" in run("keys", "list", repo)
    assert "timestamp-1 signs no more" in run("keys", "rotate", repo, "timestamp", "snapshot")
    assert "2.root.json" in str(sorted((repo / "metadata").glob("*.root.json")))
    assert "look through them: none" in run("keys", "revoke", repo, "models", "models-1")
    assert "has no key 'models-1'" in fails("keys", "revoke", repo, "models", "models-1")
    (repo.with_name("repo.private") / "offline").rename(tmp_path / "stick")
    said = json.loads(run("keys", "refresh", repo, "--json"))
    assert (said["refreshed"], said["away"]) == (["snapshot", "timestamp"], ["root", "targets", "rollouts", "models"])
    assert "root-1 (not here)" in run("keys", "list", repo)
    assert "root: signed until" in run("keys", "refresh", repo, "root", "--keys", tmp_path / "stick")
    assert "of root needed" in fails("keys", "rotate", repo, "timestamp")
    assert "expected root, targets" in fails("keys", "refresh", repo, "roots")


def test_short_forms_of_options_are_refused(repo: Path, fails: Run) -> None:
    """They would mean something else with the next option that begins like them."""
    assert "unrecognized arguments: --js" in fails("keys", "list", repo, "--js")
    assert "unrecognized arguments: --mqtt" in fails("status", repo, "--mqtt-p", 1883)


def test_init_never_touches_what_is_there(repo: Path, tmp_path: Path, fails: Run) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "is a repository already; nothing was changed" in fails("init", repo)
    (repo / "metadata").rename(tmp_path / "elsewhere")
    assert "has keys or settings of a repository" in fails("init", repo, "--preset", "fleet")
    (tmp_path / "elsewhere").rename(repo / "metadata")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_one_key_of_a_bench_is_told_to_sign_for_others_until_all_are_rotated(repo: Path, run: Run) -> None:
    assert "still signs for root, targets, rollouts, snapshot, timestamp" in run("keys", "rotate", repo, "models")
    assert "still signs" not in run("keys", "rotate", repo, "all")


def test_a_signature_that_expires_soon_is_warned_of_by_every_command(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = filled.with_name("repo.private") / "fleet.toml"
    settings.write_text(settings.read_text().replace("targets = 365", "targets = 1"))
    assert main(["keys", "refresh", str(filled), "targets"]) == 0
    settings.write_text(settings.read_text().replace("targets = 1\n", "targets = 365\n"))
    capsys.readouterr()
    for command in (("keys", "list", filled), ("rollout", filled, "hall", "--to", "all"), ("pause", filled, "hall")):
        assert main([str(argument) for argument in command]) == 0
        assert f"keys refresh {filled} targets" in capsys.readouterr().err


def test_all_that_expires_soon_is_one_warning(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = filled.with_name("repo.private") / "fleet.toml"
    settings.write_text(settings.read_text().replace("= 365", "= 1"))
    assert main(["keys", "refresh", str(filled)]) == 0
    settings.write_text(settings.read_text().replace("= 1\n", "= 365\n"))
    capsys.readouterr()
    assert main(["keys", "list", str(filled)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    roles = ("root", "targets", "rollouts", "models", "snapshot", "timestamp")
    assert line.startswith(f"warning: {', '.join(roles)} expires ")
    assert f"edge-fleet keys refresh {filled} {' '.join(roles)}, else devices take no updates" in line
