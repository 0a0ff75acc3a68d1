"""Where a device stands in a rollout, judged from what it says; and when the whole is over."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from edge_agent.rollouts import Audience, Reason, Rollout
from fleet.campaign import Campaign, Phase, Verdict
from fleet.fleet_text import counts_text, device_rows, ended_text, standing_line
from fleet.fleet_view import FleetView
from fleet.screens import picture

SHA, OLD = "ab" * 32, "cd" * 32
ROLLOUT = Rollout(
    id="hall-2-2", number=2, model="hall", target="models/hall/2.tflite", sha256=SHA, to=Audience(everyone=True)
)
NUMBERS = {"hall-1-1": 1, "hall-2-2": 2, "hall-3-3": 3}


def slot(rollout: str, sha256: str = SHA, version: str = "2") -> dict[str, Any]:
    return {"version": version, "sha256": sha256, "seq": 1, "rollout": rollout}


def status(**members: Any) -> dict[str, Any]:
    return {
        "schema": "edge-agent/update-status/1",
        "time": "2027-03-01T12:00:00.000Z",
        "clock_synced": True,
        "device": "a",
        "state": "idle",
        "models": {"hall": {"current": slot("hall-1-1", OLD, "1"), "previous": None, "floor": 1, "pinned": False}},
        **members,
    }


def last(state: str, reason: str | None = None, rollout: str = "hall-2-2") -> dict[str, Any]:
    return {"state": state, "model": "hall", "version": "2", "sha256": SHA, "rollout": rollout, "reason": reason}


def view(**says: dict[str, Any]) -> FleetView:
    made = FleetView()
    for device, said in says.items():
        assert made.hear(f"{device}/update/status", json.dumps({**said, "device": device}).encode()) == device
    return made


def campaign(rollout: Rollout = ROLLOUT, **says: dict[str, Any]) -> Campaign:
    return Campaign(rollout, NUMBERS, view(**says).devices.values())


def running(rollout: str, *, pinned: bool = False) -> dict[str, Any]:
    return {"models": {"hall": {"current": slot(rollout), "pinned": pinned}}}


@pytest.mark.parametrize(
    ("members", "phase", "word"),
    [
        ({}, Phase.WAITING, "waiting"),
        ({"models": {}}, Phase.WAITING, "waiting"),
        ({"rollout": "hall-2-2", "state": "fetching", "progress": 0.5}, Phase.UNDER_WAY, "fetching"),
        ({"rollout": "hall-2-2", "state": "trial"}, Phase.UNDER_WAY, "trial"),
        ({"rollout": "hall-1-1", "state": "trial"}, Phase.WAITING, "waiting"),
        (running("hall-2-2"), Phase.COMMITTED, "committed"),
        ({**running("hall-2-2"), "last": last("rejected", "golden", "other")}, Phase.COMMITTED, "committed"),
        ({"last": last("rejected", "golden")}, Phase.FAILED, "rejected"),
        ({"last": last("rolled_back", "invoke")}, Phase.FAILED, "rolled back"),
        ({"last": last("rolled_back", "invoke", "hall-1-1")}, Phase.WAITING, "waiting"),
        ({"last": last("rejected", "withdrawn")}, Phase.WAITING, "rejected"),
        ({"last": last("rejected", "profile")}, Phase.LEFT_OUT, "rejected"),
        ({"last": last("rejected", "agent")}, Phase.LEFT_OUT, "rejected"),
        (running("hall-1-1", pinned=True), Phase.LEFT_OUT, "pinned"),
        (running("hall-3-3"), Phase.LEFT_OUT, "newer"),
        ({"held_until": "2027-03-01T14:00:00.000Z"}, Phase.WAITING, "held"),
    ],
)
def test_a_device_stands_where_its_words_say(members: dict[str, Any], phase: Phase, word: str) -> None:
    (standing,) = campaign(a=status(**members)).standings
    assert (standing.phase, standing.word) == (phase, word)


def test_a_device_that_never_looks_for_updates_is_no_riddle() -> None:
    (standing,) = campaign(a=status()).standings
    assert "has it [update] repository?" in standing_line(standing)
    (standing,) = campaign(a=status(check={"ok": True, "reason": None, "detail": ""})).standings
    assert not standing.detail


def test_a_device_that_waits_says_why_its_last_check_failed() -> None:
    check = {"ok": False, "reason": "metadata_expired", "detail": "timestamp expired"}
    (standing,) = campaign(a=status(check=check)).standings
    assert standing_line(standing) == "a  waiting  runs 1  metadata_expired: timestamp expired"


def test_a_device_without_the_model_is_not_meant() -> None:
    assert campaign(a=status(models={"other": {"current": slot("x")}})).standings == []


def test_a_named_device_counts_before_it_was_heard_of_and_where_the_model_is_not_for_it() -> None:
    rollout = Rollout(id="r", number=1, model="hall", target="t", sha256=SHA, to=Audience(devices=("a", "b")))
    followed = campaign(rollout, a=status(last=last("rejected", "profile", "r")))
    assert {standing.device: standing.phase for standing in followed.standings} == {
        "a": Phase.FAILED,
        "b": Phase.WAITING,
    }
    assert followed.verdict is None


def test_a_group_is_known_from_what_the_devices_say_of_themselves() -> None:
    rollout = Rollout(id="r", number=1, model="hall", target="t", sha256=SHA, to=Audience(groups=("line-3",)))
    devices = view(a=status(), b=status())
    devices.hear("b/info", b'{"schema":"edge-agent/info/1","device":"b","boot_id":"x","groups":["line-3"]}')
    followed = Campaign(rollout, NUMBERS, devices.devices.values())
    assert [standing.device for standing in followed.standings] == ["b"]


def test_what_failed_stays_failed_when_the_device_has_gone_on_to_another_model() -> None:
    followed = campaign(a=status(last=last("rolled_back", "invoke")))
    later = view(a=status(last=last("committed", rollout="another")))
    assert followed.note(later.devices["a"]) is None
    assert followed.count(Phase.FAILED) == 1


def test_what_was_refused_is_known_also_when_another_update_has_ended_since() -> None:
    others = last("rolled_back", "operator", "another")
    followed = campaign(a=status(last=others, refused={"hall-2-2": "golden", "another": "operator"}))
    assert [(standing.phase, standing.reason) for standing in followed.standings] == [(Phase.FAILED, "golden")]
    assert campaign(a=status(last=others, refused={"hall-2-2": "profile"})).count(Phase.LEFT_OUT) == 1


GOOD, BAD, TRIED = status(**running("hall-2-2")), status(last=last("rejected", "hash")), status(rollout="hall-2-2")


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ({}, None),
        ({"a": GOOD}, Verdict.GOOD),
        ({"a": GOOD, "b": status()}, None),
        ({"a": GOOD, "b": TRIED}, None),
        ({"a": GOOD, "b": BAD}, Verdict.FAILED),
        ({"a": BAD, "b": BAD, "c": status()}, Verdict.TOO_MANY),
        ({"a": status(last=last("rejected", "profile"))}, Verdict.FAILED),
        ({"a": GOOD, "b": status(last=last("rejected", "profile"))}, Verdict.GOOD),
    ],
)
def test_the_verdict_follows_from_all_devices(says: dict[str, Any], verdict: Verdict | None) -> None:
    assert campaign(**says).verdict is verdict


def test_a_paused_rollout_waits_and_a_stopped_one_is_over() -> None:
    followed = campaign(replace(ROLLOUT, state="paused"), a=status())
    assert followed.standings[0].word == "paused"
    assert followed.verdict is None
    assert campaign(replace(ROLLOUT, state="stopped"), a=status()).verdict is Verdict.STOPPED


def test_the_words_name_the_counts_and_those_that_failed() -> None:
    followed = campaign(a=GOOD, b=BAD, c=status())
    assert counts_text(followed) == "3 devices: 1 committed, 1 waiting, 1 failed"
    assert "b  rejected  runs 1  hash" in ended_text(followed, None)
    assert followed.share_done == pytest.approx(2 / 3)


def test_the_table_shows_as_many_devices_as_there_is_room_for_the_failed_first() -> None:
    followed = campaign(**{f"good-{number}": GOOD for number in range(9)}, bad=BAD)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(picture(followed, rows=3))
    lines = console.export_text().splitlines()
    assert "10 devices: 9 committed, 1 failed" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == ["bad", "good-0", "good-1", "and"]
    assert lines[-1].startswith("and 7 more")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_place(reason: Reason) -> None:
    (standing,) = campaign(a=status(last=last("rejected", reason.value))).standings
    assert standing.reason == reason.value


def test_what_a_stranger_publishes_reaches_no_terminal_unchanged() -> None:
    evil = "\x1b[2J\u202e\n\x9b1m"
    said = status(
        models={evil: {"current": slot("x", version=evil)}}, last=last("rejected", evil), model=evil, detail=evil
    )
    devices = view(a=said)
    shown = "".join(cell for row in device_rows(devices.devices.values()) for cell in row)
    shown += standing_line(campaign(a=status(last={**last("rejected", evil), "detail": evil})).standings[0])
    assert all(character.isprintable() for character in shown)


@given(st.sampled_from(["a/update/status", "a/info", "a/availability", "a", "", "/", "a/b/c/d"]), st.binary())
def test_whatever_bytes_arrive_nothing_is_raised(topic: str, payload: bytes) -> None:
    heard = FleetView()
    heard.hear(topic, payload)
    assert set(heard.devices) <= {"a"}


@pytest.mark.parametrize(
    "change", [{"state": "nonsense"}, {"progress": 7}, {"models": []}, {"schema": "edge-agent/update-status/2"}]
)
def test_a_status_that_is_none_is_counted_and_left_out(change: dict[str, Any]) -> None:
    heard = FleetView()
    assert heard.hear("a/update/status", json.dumps({**status(), **change}).encode()) is None
    assert heard.unreadable == 1
    assert not heard.devices
