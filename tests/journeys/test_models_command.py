"""``edge-agent models``: what the operator at the device sees and does, beside a daemon and without one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.commands import models, models_asked
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.io.model_store import ModelStore
from edge_agent.io.update_requests import Answer
from edge_agent.rollouts import (
    Audience,
    Bad,
    Candidate,
    DeviceState,
    Held,
    Outcome,
    Reason,
    Release,
    Rollout,
    Slot,
    Trial,
    UpdateState,
)
from tests.simulators import agent_toml
from tests.simulators.command_line import edge_agent
from tests.simulators.tuf_repository import TufRepository

CONTENT = (agent_toml.CONVEYOR / "model" / "conveyor.tflite").read_bytes()
NEW, OLD = "a" * 64, "b" * 64
RELEASE = Release(
    name="conveyor", version="2.2.0", target="models/conveyor/2.2.0.tflite", length=9, sha256="c" * 64, seq=8
)
NEXT = Candidate(
    RELEASE,
    Rollout(id="r8", number=8, model="conveyor", target=RELEASE.target, sha256=RELEASE.sha256, to=Audience()),
)
COMMITTED = DeviceState(
    models={
        "conveyor": Held(
            current=Slot(sha256=NEW, version="2.1.0", seq=7, rollout="r7"),
            previous=Slot(sha256=OLD, version="2.0.0", seq=6, rollout="r6"),
            floor=7,
        )
    },
    last=Outcome(
        state=UpdateState.REJECTED,
        model="conveyor",
        version="2.1.9",
        sha256=OLD,
        rollout="r9",
        reason=Reason.GOLDEN,
        detail="sample 0 is off by 31",
        wall_ns=1_790_000_000_000_000_000,
    ),
    bad=(Bad(OLD, "r9", Reason.GOLDEN),),
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "update").mkdir()
    path = tmp_path / "agent.toml"
    path.write_text(
        agent_toml.head(1883)
        + agent_toml.belt()
        + agent_toml.machine()
        + agent_toml.inspect()
        + agent_toml.MODEL
        + '[update]\npath = "update"\n'
    )
    return path


@pytest.fixture
def store(config: Path) -> ModelStore:
    return ModelStore(config.parent / "update")


def run(config: Path, *arguments: str) -> int:
    return models.main([*arguments, "--config", str(config)])


# --- list ------------------------------------------------------------------------------------------------------------


def test_a_device_that_never_had_an_update_runs_its_factory_models(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(config.parent / "update"),
        "",
        "model     runs     sha256  seq  before it  rollout",
        "conveyor  factory",
    ]


def test_a_person_sees_what_runs_and_how_the_last_update_ended(
    config: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(replace(COMMITTED, pending=NEXT, trial=Trial(candidate=NEXT, starts=2, ran_s=61.2)))
    assert run(config, "list") == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "model     runs   sha256        seq  before it  rollout",
        "conveyor  2.1.0  aaaaaaaaaaaa  7    2.0.0      r7",
        "",
        "under way: conveyor 2.2.0 (rollout r8)",
        "on trial: conveyor 2.2.0 (rollout r8), start 2 with it, 61 s of 3600 s",
        "last: 2026-09-21T14:13:20.000Z  rejected conveyor 2.1.9 (rollout r9), golden: sample 0 is off by 31",
    ]


def test_a_program_sees_the_same(config: Path, store: ModelStore) -> None:
    store.save(replace(COMMITTED, trial=Trial(candidate=NEXT, starts=2, ran_s=61.5)))
    done = edge_agent(config.parent, "models", "--json", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "edge-agent/models/1"
    assert answer["models"]["conveyor"]["current"] == {"version": "2.1.0", "sha256": NEW, "seq": 7, "rollout": "r7"}
    assert answer["trial"] == {
        "model": "conveyor",
        "version": "2.2.0",
        "sha256": RELEASE.sha256,
        "seq": 8,
        "rollout": "r8",
        "starts": 2,
        "ran_s": 61.5,
        "trial_s": 3600.0,
    }
    assert answer["pending"] is None
    assert answer["last"]["reason"] == "golden"
    assert answer["given_up"] == [{"sha256": OLD, "rollout": "r9", "reason": "golden"}]
    assert answer["damage"] is None


def test_a_damaged_state_is_said(config: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.save(COMMITTED)
    (store.folder / "state.json").write_bytes(bytes(100))
    assert run(config) == 0
    shown = capsys.readouterr()
    assert "2.1.0" in shown.out
    assert "its copy counts" in shown.err


@pytest.mark.parametrize(
    "arguments", [["pin"], ["rollback"], ["install"], ["list", "conveyor"], ["explode"], ["pin", "a", "b"]]
)
def test_bad_usage_is_2(config: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(config, *arguments)
    assert ended.value.code == 2


# --- without a daemon ------------------------------------------------------------------------------------------------


def test_pin_and_unpin(config: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.save(COMMITTED)
    assert run(config, "pin", "conveyor") == 0
    assert store.load().models["conveyor"].pinned
    assert run(config, "unpin", "conveyor") == 0
    assert store.load() == COMMITTED
    assert capsys.readouterr().out == "conveyor is pinned to 2.1.0\nconveyor follows the rollouts again\n"


def test_rollback_goes_to_the_model_before_and_its_rollout_does_not_bring_it_again(
    config: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(COMMITTED)
    assert run(config, "rollback", "conveyor", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "edge-agent/models-asked/1",
        "ok": True,
        "text": "conveyor goes back to 2.0.0",
        "by": "command",
    }
    state = store.load()
    assert state.models["conveyor"].current.version == "2.0.0"
    assert state.models["conveyor"].floor == 7
    assert [(bad.sha256, bad.rollout) for bad in state.bad] == [(OLD, "r9"), (NEW, "r7")]
    assert state.last is not None
    assert (state.last.state, state.last.reason) == (UpdateState.ROLLED_BACK, Reason.OPERATOR)


def test_rollback_ends_a_trial(config: Path, store: ModelStore) -> None:
    store.save(replace(COMMITTED, trial=Trial(candidate=NEXT, starts=1)))
    assert run(config, "rollback", "conveyor") == 0
    state = store.load()
    assert state.trial is None
    assert state.models == COMMITTED.models
    assert Bad(RELEASE.sha256, "r8", Reason.OPERATOR) in state.bad


def test_there_is_nothing_before_the_factory_model(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "rollback", "conveyor") == 1
    assert "factory model" in capsys.readouterr().err


def test_a_model_that_the_configuration_does_not_have_is_its_matter(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \[model.hall\] in .*; it has: conveyor"):
        run(config, "pin", "hall")


def test_no_folder_is_made_where_the_daemon_has_none(config: Path, store: ModelStore) -> None:
    store.folder.rmdir()
    with pytest.raises(ConfigError, match="start the daemon once"):
        run(config, "pin", "conveyor")
    assert not store.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the daemon's user")
def test_what_root_does_leaves_files_that_the_daemons_user_can_read(config: Path) -> None:
    user = 12345  # no name needed: services may have users that come and go
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "update").mkdir(mode=0o700)
        os.chown(folder / "update", user, user)
        config.write_text(config.read_text().replace('path = "update"', f'path = "{folder}/update"'))
        done = edge_agent(config.parent, "models", "pin", "conveyor", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        found = {path.name: path.stat().st_uid for path in (folder / "update").rglob("*")}
    assert found["state.json"] == user
    assert set(found.values()) == {user}


# --- beside a daemon -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def daemon(store: ModelStore, answer: Callable[[str], Answer]) -> Iterator[list[str]]:
    """Holds the lock and answers each request, as the daemon's thread of updates does. Gives what it was asked."""
    asked: list[str] = []
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.wait(0.01):
            for request in store.requests.waiting():
                asked.append(f"{request.what} {request.model or request.folder}")
                store.requests.answer(request.id, answer(request.what))

    store.lock()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        stopping.set()
        thread.join()
        store.close()


@pytest.mark.parametrize("ok", [True, False])
def test_a_running_daemon_is_asked_and_its_answer_printed(
    config: Path, store: ModelStore, ok: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(store, lambda what: Answer(ok, f"{what}: said the daemon")) as asked:
        assert run(config, "pin", "conveyor") == (0 if ok else 1)
        assert run(config, "rollback", "conveyor") == (0 if ok else 1)
        assert run(config, "install", "/media/usb") == (0 if ok else 1)
    assert asked == ["pin conveyor", "rollback conveyor", "install /media/usb"]
    shown = capsys.readouterr()
    said = "pin: said the daemon\nrollback: said the daemon\ninstall: said the daemon\n"
    assert (shown.out, shown.err) == ((said, "") if ok else ("", said))


def test_a_folder_is_asked_for_by_its_whole_path(
    config: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    with daemon(store, lambda _: Answer(True, "")) as asked:
        assert run(config, "install", "stick") == 0
    assert asked == [f"install {config.parent}/stick"]


def test_a_daemon_that_does_not_answer_is_said_and_the_request_withdrawn(
    config: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_asked, "ANSWER_S", 0.1)
    store.lock()
    with pytest.raises(EdgeAgentError, match=r"the daemon \(pid \d+\) did not answer within 0.1 s"):
        run(config, "pin", "conveyor")
    assert store.requests.waiting() == []


# --- install ---------------------------------------------------------------------------------------------------------


class Stick:
    """A repository on a medium, whose root the device trusts."""

    def __init__(self, config: Path) -> None:
        self.folder = config.parent / "stick"
        self.repository = TufRepository(self.folder)
        (config.parent / "update-root.json").write_bytes(self.repository.root_bytes)

    def publish(self, content: bytes = CONTENT, seq: int = 7, device: str = agent_toml.DEVICE, **signed: object) -> str:
        release = self.repository.add_model("conveyor", f"{seq}.0.0", content, seq, **signed)
        rollout = Rollout(
            id=f"r{seq}",
            number=seq,
            model="conveyor",
            target=release.target,
            sha256=release.sha256,
            to=Audience(devices=(device,)),
        )
        self.repository.set_rollouts("main", [rollout])
        return release.sha256


def garble(stick: Stick) -> None:
    (model,) = (stick.folder / "targets" / "models" / "conveyor").iterdir()
    model.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))


@pytest.fixture
def stick(config: Path) -> Stick:
    return Stick(config)


def test_a_repository_in_a_folder_brings_a_model_for_the_daemons_next_start(
    config: Path, store: ModelStore, stick: Stick, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = stick.publish()
    assert run(config, "install", str(stick.folder)) == 0
    assert capsys.readouterr().out == "conveyor 7.0.0 is good; the daemon tries it when it starts\n"
    state = store.load()
    assert state.pending is not None
    assert (state.pending.release.sha256, state.pending.rollout.id) == (sha256, "r7")
    path = store.slot(sha256)
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert state.trial is None


def test_with_a_stick_that_has_nothing_for_this_device_nothing_happens(
    config: Path, store: ModelStore, stick: Stick, capsys: pytest.CaptureFixture[str]
) -> None:
    stick.publish(device="line2")
    assert run(config, "install", str(stick.folder)) == 0
    assert capsys.readouterr().out == "no rollout means this device\n"
    assert store.load() == DeviceState()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda stick: stick.repository.expire("timestamp"), Reason.METADATA_EXPIRED),
        (lambda stick: stick.repository.metadata("timestamp.json").write_bytes(b"{}"), Reason.METADATA_REFUSED),
        (lambda stick: TufRepository(stick.folder), Reason.METADATA_REFUSED),
        (lambda stick: (stick.folder.parent / "update-root.json").unlink(), Reason.NO_ROOT),
        (lambda stick: (stick.folder.parent / "update-root.json").write_bytes(b"{}"), Reason.NO_ROOT),
        (lambda stick: stick.folder.rename(stick.folder.with_name("gone")), Reason.UNREACHABLE),
        (garble, Reason.HASH),
        (lambda stick: stick.publish(CONTENT[:-2000]), None),
        (lambda stick: stick.publish(b"no model at all"), Reason.NOT_A_MODEL),
    ],
    ids=[
        "expired",
        "edited by hand",
        "of somebody else",
        "no root on the device",
        "a root that is none",
        "pulled out",
        "garbled",
        "cut short and signed",
        "no model, and signed",
    ],
)
def test_a_stick_that_can_not_be_trusted_changes_nothing(
    config: Path,
    store: ModelStore,
    stick: Stick,
    spoil: Callable[[Stick], object],
    reason: Reason | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stick.publish()
    spoil(stick)
    assert run(config, "install", str(stick.folder)) == 1
    (said,) = capsys.readouterr().err.splitlines()
    word = said.partition(": ")[0]
    assert word == reason.value if reason else word in list(Reason)
    assert store.load() == DeviceState()


def test_with_a_clock_in_the_past_signatures_mean_nothing(
    config: Path, store: ModelStore, stick: Stick, capsys: pytest.CaptureFixture[str]
) -> None:
    state = DeviceState(time_floor_ns=2**62)  # the year 2116
    store.save(state)
    stick.publish()
    assert run(config, "install", str(stick.folder), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["text"].partition(": ")[0]) == (False, "clock")
    assert store.load() == state


@pytest.mark.parametrize(
    ("signed", "said"),
    [({"profiles": ["jetson"]}, "is for jetson"), ({"agent": "99.0"}, "wants edge-agent 99.0")],
)
def test_a_model_for_another_device_is_refused_with_its_reason(
    config: Path,
    store: ModelStore,
    stick: Stick,
    signed: dict[str, object],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stick.publish(**signed)
    assert run(config, "install", str(stick.folder)) == 1
    assert said in capsys.readouterr().err
    assert store.load() == DeviceState()


def test_an_older_release_is_refused(
    config: Path, store: ModelStore, stick: Stick, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(COMMITTED)
    stick.publish(seq=5)
    assert run(config, "install", str(stick.folder)) == 1
    assert "sequence number 5" in capsys.readouterr().err
    assert store.load() == COMMITTED


# --- verify ----------------------------------------------------------------------------------------------------------


def test_all_models_of_the_device_are_examined(
    config: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(COMMITTED)
    assert run(config, "verify", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [(model["label"], model["reason"]) for model in answer["models"]] == [
        ("conveyor 2.1.0 (runs)", "hash"),
        ("conveyor 2.0.0 (before it)", "hash"),
        ("conveyor factory", None),
    ]
    assert answer["models"][2]["evidence"]["golden_samples"] > 0


def test_a_file_is_examined_as_an_update_would_be(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(CONTENT)
    bad.write_bytes(b"no model")
    assert run(config, "verify", str(good)) == 0
    assert run(config, "verify", str(bad)) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"ok    {good} as conveyor: ")
    assert shown.err.startswith(f"fail  {bad} as conveyor: not_a_model: ")
    with pytest.raises(ConfigError, match="--model takes one of: conveyor"):
        run(config, "verify", str(good), "--model", "hall")
