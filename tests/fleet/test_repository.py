"""A repository as its owner makes and fills it, seen by the client that runs on devices."""

from __future__ import annotations

import json
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, StorageError
from edge_agent.rollouts import Audience, Reason
from fleet.releases import find_release, publish
from fleet.repository import expiry_sentence, open_repository, read_repository
from fleet.rollout_book import RolloutBook, audience
from tests.fleet.repository_world import NOW, Device, Operator, days, model

EVERYONE = Audience(everyone=True)


@pytest.fixture(params=["bench", "fleet"])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Operator:
    return Operator(tmp_path / "repo", request.param)


@pytest.fixture
def bench(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "repo")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device", tmp_path / "repo", (tmp_path / "repo/metadata/1.root.json").read_bytes())


def test_a_device_trusts_a_new_repository_and_finds_no_rollout(operator: Operator, device: Device) -> None:
    assert device.check().rollouts == ()


def test_a_published_model_comes_with_what_was_signed_of_it(operator: Operator, device: Device) -> None:
    operator.publish("1.0.0")
    released = operator.publish("2.0.0", b"two", profiles=("pi-5", "x86"), agent="1.2", p95_ms=12.5, memory_mb=80.0)
    found, content = device.fetch("models/hall/2.0.0.tflite")
    assert (found, content) == (released, b"two")
    assert (found.seq, found.profiles, found.agent, found.p95_ms, found.memory_mb) == (
        2,
        ("pi-5", "x86"),
        "1.2",
        12.5,
        80.0,
    )


def test_a_rollout_comes_as_it_was_signed(operator: Operator, device: Device) -> None:
    release = operator.publish("1.0.0")
    terms = {"percent": 12.5, "shadow_s": 60.0, "trial_s": 5.0, "share": 0.25, "agreement": 0.9, "max_failures": 3}
    with operator.book() as book:
        begun = book.begin(release, audience(["device:a,b", "group:line-3"]), window="22:00-04:00", **terms)
    (found,) = device.check().rollouts
    assert found == begun
    assert found.to == Audience(devices=("a", "b"), groups=("line-3",))
    assert found.id == "hall-1.0.0-1" and found.salt


def test_all_that_is_public_may_be_served_and_nothing_private_lies_there(operator: Operator) -> None:
    operator.publish("1.0.0")
    assert sorted(path.name for path in operator.folder.iterdir()) == ["metadata", "targets"]
    for path in operator.folder.rglob("*"):
        assert path.stat().st_mode & 0o444 == 0o444
        assert path.is_dir() or b"PRIVATE" not in path.read_bytes()


def test_private_keys_are_for_their_owner_alone(operator: Operator) -> None:
    assert stat.S_IMODE(operator.private.stat().st_mode) == 0o700
    keys = list(operator.private.rglob("*.pem"))
    assert keys and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)


def test_the_presets_are_what_they_say(tmp_path: Path) -> None:
    bench, fleet = Operator(tmp_path / "b"), Operator(tmp_path / "f", "fleet")
    assert len(list(bench.private.rglob("*.pem"))) == 1
    assert sorted(path.name for path in (fleet.private / "online").iterdir()) == ["snapshot-1.pem", "timestamp-1.pem"]
    assert len(list((fleet.private / "offline").iterdir())) == 6
    root = json.loads((fleet.folder / "metadata/1.root.json").read_text())["signed"]
    assert root["roles"]["root"]["threshold"] == 2 and len(root["roles"]["root"]["keyids"]) == 3


def test_init_touches_nothing_that_is_there(bench: Operator) -> None:
    before = bench.first_root
    with pytest.raises(ConfigError, match="is a repository already"):
        Operator(bench.folder)
    shutil.rmtree(bench.folder)
    with pytest.raises(ConfigError, match="has keys or settings"):
        Operator(bench.folder)
    assert before and list(bench.private.rglob("*.pem"))


# --- publishing ------------------------------------------------------------------------------------------------------


def test_publishing_the_same_file_twice_changes_nothing(bench: Operator) -> None:
    first = bench.publish("1.0.0", b"one")
    timestamp = (bench.folder / "metadata/timestamp.json").read_bytes()
    assert bench.publish("1.0.0", b"one") == first
    assert (bench.folder / "metadata/timestamp.json").read_bytes() == timestamp


def test_a_version_means_one_file_for_ever(bench: Operator) -> None:
    bench.publish("1.0.0", b"one")
    with pytest.raises(ConfigError, match="published with other bytes"):
        bench.publish("1.0.0", b"two")
    with pytest.raises(ConfigError, match="published with other conditions"):
        bench.publish("1.0.0", b"one", agent="9")


def test_sequence_numbers_grow_by_name(bench: Operator) -> None:
    assert [bench.publish(version).seq for version in ("1.0.0", "0.9.0", "2.0.0")] == [1, 2, 3]
    with bench.opened() as repository:
        assert publish(repository, model(b"other"), "gate", "1.0.0")[0].seq == 1
        assert find_release(repository, "hall").version == "2.0.0"
        assert find_release(repository, "hall@0.9.0").seq == 2
        with pytest.raises(ConfigError, match=r"it has: 1\.0\.0, 0\.9\.0, 2\.0\.0"):
            find_release(repository, "hall@3")
        with pytest.raises(ConfigError, match="models there: gate, hall"):
            find_release(repository, "yard")


# --- rollouts over time ----------------------------------------------------------------------------------------------


def test_a_rollout_is_paused_resumed_widened_and_stopped(bench: Operator, device: Device) -> None:
    release = bench.publish("1.0.0")
    with bench.book() as book:
        begun = book.begin(release, EVERYONE, percent=10.0)
        assert book.pause(begun.id).state == "paused"
        assert device.check().rollouts[0].state == "paused"
        assert book.resume("hall").state == "active"
        assert book.promote(begun.id, 50.0).percent == 50.0
        assert device.check().rollouts[0].salt == begun.salt  # or other devices would be meant
        with pytest.raises(ConfigError, match="only grows"):
            book.promote(begun.id, 20.0)
        assert book.stop(begun.id).state == "stopped"
        for change in (book.pause, book.resume):
            with pytest.raises(ConfigError, match="stopped, which is for good"):
                change(begun.id)
    assert device.check().rollouts[0].state == "stopped"


def test_rolling_back_signs_the_old_bytes_under_a_higher_number_for_the_same_devices(
    bench: Operator, device: Device
) -> None:
    one, two = bench.publish("1.0.0", b"one"), bench.publish("2.0.0", b"two")
    with bench.book() as book:
        book.begin(one, EVERYONE)
        bad = book.begin(two, audience(["group:line-3"]), percent=30.0)
        stopped, back = book.roll_back("hall")
    assert (stopped.id, stopped.state) == (bad.id, "stopped")
    assert (back.target, back.to, back.percent, back.salt) == (one.target, bad.to, 30.0, bad.salt)
    assert device.check().rollouts[-1] == back
    found, content = device.fetch(back.target)
    assert content == b"one"
    assert found.sha256 == one.sha256 and found.seq == 3
    assert bench.publish("2.1.0").seq == 4


def test_what_came_before_skips_what_was_stopped(bench: Operator) -> None:
    releases = [bench.publish(version) for version in ("1.0.0", "2.0.0", "3.0.0")]
    with bench.book() as book:
        ids = [book.begin(release, EVERYONE).id for release in releases]
        book.stop(ids[1])
        assert book.roll_back("hall")[1].target == releases[0].target


def test_a_first_rollout_can_only_be_stopped_or_turned_to_a_named_release(bench: Operator) -> None:
    one, two = bench.publish("1.0.0"), bench.publish("2.0.0")
    with bench.book() as book:
        begun = book.begin(two, EVERYONE)
        with pytest.raises(ConfigError, match="no rollout of hall came before"):
            book.roll_back(begun.id)
        assert book.find(begun.id).state == "active"
        with pytest.raises(ConfigError, match="these very bytes"):
            book.roll_back(begun.id, "2.0.0")
        assert book.roll_back(begun.id, "1.0.0")[1].target == one.target


def test_an_older_release_is_not_rolled_out_by_mistake(bench: Operator) -> None:
    one, two = bench.publish("1.0.0"), bench.publish("2.0.0")
    with bench.book() as book:
        book.begin(two, EVERYONE)
        with pytest.raises(ConfigError, match=r"older than 2\.0\.0"):
            book.begin(one, EVERYONE)
        book.begin(one, EVERYONE, again=True)
    with bench.opened() as repository:
        assert find_release(repository, "hall@1.0.0").seq == 3


def test_channels_do_not_see_each_other_and_share_no_id(bench: Operator, device: Device) -> None:
    release = bench.publish("1.0.0")
    with bench.opened() as repository:
        main = RolloutBook(repository).begin(release, EVERYONE)
        pilot = RolloutBook(repository, "pilot").begin(release, EVERYONE)
    assert main.id != pilot.id
    assert device.check().rollouts == (main,)
    assert device.trusted().channel("pilot").rollouts == (pilot,)


def test_no_document_is_signed_that_a_device_would_refuse(bench: Operator) -> None:
    release = bench.publish("1.0.0")
    with bench.book() as book, pytest.raises(ConfigError, match="nothing was signed"):
        book.begin(release, EVERYONE, window="25:00-26:00")
    with bench.book() as book:
        assert book.channel().rollouts == ()


@pytest.mark.parametrize("text", ["device:", "device:A", "device:a,,b", "group:#", "a", "everyone", "device:a b"])
def test_an_audience_that_means_nobody_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected device:NAME,NAME or group:NAME,NAME or all"):
        audience([text])


# --- bad input -------------------------------------------------------------------------------------------------------


def test_an_edited_repository_is_not_signed_over(operator: Operator) -> None:
    operator.publish("1.0.0")
    for path in [*(operator.folder / "metadata").glob("2.*.json"), operator.folder / "metadata/timestamp.json"]:
        good = path.read_bytes()
        for bad in (good.replace(b'"2027', b'"2037'), good.replace(b'"2028', b'"2038'), good[:-40], b""):
            if bad == good:
                continue
            path.write_bytes(bad)
            with pytest.raises(ConfigError, match="does not verify"), operator.opened():
                pass
        path.unlink()
        with pytest.raises(ConfigError, match="does not verify"), operator.opened():
            pass
        path.write_bytes(good)
    with operator.opened():
        pass


def test_a_model_file_that_was_edited_or_lost_is_not_rolled_out(bench: Operator) -> None:
    release = bench.publish("1.0.0")
    (path,) = (bench.folder / "targets/models/hall").iterdir()
    path.write_bytes(b"edited")
    with bench.book() as book, pytest.raises(ConfigError, match="not the bytes that were signed"):
        book.begin(release, EVERYONE)
    path.unlink()
    with bench.book() as book, pytest.raises(ConfigError, match="bring the file back"):
        book.begin(release, EVERYONE)


def test_an_edited_book_is_not_signed_over(bench: Operator) -> None:
    release = bench.publish("1.0.0")
    with bench.book() as book:
        book.begin(release, EVERYONE)
    (path,) = (bench.folder / "targets/rollouts").iterdir()
    path.write_bytes(path.read_bytes().replace(b"active", b"paused"))
    with bench.book() as book, pytest.raises(ConfigError, match="not what was signed"):
        book.pause("hall")


def test_one_writer_at_a_time(bench: Operator) -> None:
    with bench.opened():
        read_repository(bench.folder, NOW)  # whoever only looks is not held up
        busy = pytest.raises(ConfigError, match="another edge-fleet changes it now")
        with busy, open_repository(bench.folder, NOW, wait_s=0):
            pass


def test_a_second_writer_waits_for_the_first(bench: Operator) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(bench.publish, [f"{number}.0.0" for number in range(8)]))
    assert sorted(release.seq for release in found) == list(range(1, 9))


def test_a_folder_that_is_no_repository_and_a_copy_without_keys_say_so(bench: Operator, tmp_path: Path) -> None:
    (tmp_path / "empty.private").mkdir()
    shutil.copy(bench.private / "fleet.toml", tmp_path / "empty.private")
    with pytest.raises(ConfigError, match="is no repository"), open_repository(tmp_path / "empty", NOW):
        pass
    shutil.copytree(bench.folder, tmp_path / "copy")
    called = "changes are made where `edge-fleet init` was called"
    with pytest.raises(ConfigError, match=called), open_repository(tmp_path / "copy", NOW):
        pass
    assert read_repository(tmp_path / "copy", NOW).version("root") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [("[days]\nroot = 0", "expected 1 to 3650"), ("dayz = 1", "dayz"), ("[mqtt]\nport = 0", "port"), ("=", "TOML")],
)
def test_wrong_settings_are_named(bench: Operator, line: str, says: str) -> None:
    (bench.private / "fleet.toml").write_text(line)
    with pytest.raises(ConfigError, match=says), bench.opened():
        pass


def test_a_disk_that_refuses_leaves_the_repository_as_it_was(
    bench: Operator, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("1.0.0")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="No space left"):
        patch.setattr(Path, "replace", full)
        bench.publish("2.0.0")
    assert device.fetch("models/hall/1.0.0.tflite")
    assert bench.publish("2.0.0").seq == 2


# --- expiry ----------------------------------------------------------------------------------------------------------


def test_what_expires_soon_is_said_and_what_is_signed_lasts_anew(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "repo", "fleet")
    device = Device(tmp_path / "device", operator.folder, operator.first_root)
    with operator.opened() as repository:
        assert not [expiry for expiry in repository.expiries() if expiry.due]
    operator.now = NOW + days(11)
    with operator.opened() as repository:
        (due,) = [expiry for expiry in repository.expiries() if expiry.due]
    assert due.role == "timestamp" and "expires 2027-03-15" in expiry_sentence(operator.folder, [due])
    late = operator.now = NOW + days(20)
    assert device.refused(at=late) is Reason.METADATA_EXPIRED
    with operator.opened() as repository:
        assert "timestamp expired 2027-03-15" in expiry_sentence(operator.folder, repository.expiries())
    operator.publish("1.0.0")
    device.check(at=late)
    with operator.opened() as repository:
        assert not [expiry for expiry in repository.expiries() if expiry.due]


def test_old_metadata_is_removed_but_for_what_a_device_may_be_reading(bench: Operator, device: Device) -> None:
    device.check()
    release = bench.publish("1.0.0")
    with bench.book() as book:
        begun = book.begin(release, EVERYONE)
        for _ in range(15):
            book.pause(begun.id)
            book.resume(begun.id)
    snapshots = list((bench.folder / "metadata").glob("*.snapshot.json"))
    assert 20 <= len(snapshots) <= 22
    assert device.check().rollouts[0].state == "active"
