"""The body of ``update/status``: a promise, so it is written out here."""

from __future__ import annotations

import msgspec

from edge_agent.core.update_status import CheckResult, UpdateStatus, status_body
from edge_agent.rollouts import (
    Audience,
    Candidate,
    DeviceState,
    Held,
    Outcome,
    Reason,
    Release,
    Rollout,
    Slot,
    UpdateState,
)

WALL_NS = 1_800_014_400_250_000_000
TIME = "2027-01-15T12:00:00.250Z"
OLD = Slot(sha256="a1", version="2.0.0", seq=4, rollout="r4")


def test_at_rest_it_says_what_runs_and_how_the_last_update_ended() -> None:
    last = Outcome(
        state=UpdateState.ROLLED_BACK,
        model="hall",
        version="2.1.0",
        sha256="b2",
        rollout="r5",
        reason=Reason.LATENCY,
        detail="slow",
        evidence={"p95_ms": 90.0},
        wall_ns=WALL_NS,
    )
    held = Held(current=OLD, floor=4, pinned=True)
    status = UpdateStatus(
        state=UpdateState.IDLE,
        device=DeviceState(models={"hall": held}, last=last),
        check=CheckResult(WALL_NS, False, Reason.METADATA_EXPIRED, "expired"),
        refusals={"r7": Reason.PROFILE, "r5": Reason.LATENCY},
        held_until_ns=WALL_NS,
    )
    assert msgspec.json.decode(status_body(status, "cam", "boot")) == {
        "device": "cam",
        "boot_id": "boot",
        "state": "idle",
        "model": None,
        "version": None,
        "sha256": None,
        "seq": None,
        "rollout": None,
        "progress": None,
        "reason": None,
        "detail": "",
        "evidence": {},
        "models": {
            "hall": {
                "current": {"version": "2.0.0", "sha256": "a1", "seq": 4, "rollout": "r4"},
                "previous": None,
                "floor": 4,
                "pinned": True,
            }
        },
        "last": {
            "state": "rolled_back",
            "model": "hall",
            "version": "2.1.0",
            "sha256": "b2",
            "rollout": "r5",
            "reason": "latency",
            "detail": "slow",
            "evidence": {"p95_ms": 90.0},
            "time": TIME,
        },
        "check": {"time": TIME, "ok": False, "reason": "metadata_expired", "detail": "expired"},
        "refused": {"r5": "latency", "r7": "profile"},
        "held_until": TIME,
    }


def test_under_way_it_names_the_model_the_rollout_and_how_far_it_is() -> None:
    target = "models/hall/2.1.0.tflite"
    release = Release(name="hall", version="2.1.0", target=target, length=8, sha256="b2", seq=5)
    rollout = Rollout(id="r5", number=5, model="hall", target=target, sha256="b2", to=Audience(everyone=True))
    status = UpdateStatus(
        state=UpdateState.FETCHING,
        device=DeviceState(models={"hall": Held(current=Slot(sha256="c3"), previous=OLD)}),
        candidate=Candidate(release, rollout),
        progress=1 / 3,
        detail="fetches",
    )
    body = msgspec.json.decode(status_body(status, "cam", "boot"))
    assert {key: body[key] for key in ("state", "model", "version", "sha256", "seq", "rollout", "progress")} == {
        "state": "fetching",
        "model": "hall",
        "version": "2.1.0",
        "sha256": "b2",
        "seq": 5,
        "rollout": "r5",
        "progress": 0.333,
    }
    assert body["models"]["hall"]["previous"]["version"] == "2.0.0"
    assert body["last"] is None and body["check"] == {"time": None, "ok": None, "reason": None, "detail": ""}
