"""Damaged copies of a good model, each signed and rolled out as if somebody had meant it: the running daemon takes
none, and its camera goes on as if nothing were pushed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.simulators.daemon import Daemon
from tests.simulators.mutants import mutants
from tests.simulators.ota_site import FPS, OtaSite
from tests.simulators.pushed import MODEL

RAN = {"trial", "committed", "rolled_back"}
COST_MOST = 0.01  # of the frames


def push_copies(site: OtaSite, count: int) -> None:
    """One after the other; each is rejected before it ran."""
    reasons: Counter[str] = Counter()
    for number, (kind, copy) in enumerate(mutants(MODEL.read_bytes(), count), start=1):
        rollout = site.rollout(site.publish(f"2.0.{number}", copy))
        site.sign_rollouts(rollout)
        last = site.wait_end(rollout)
        assert last["state"] == "rejected", f"{kind}: {last}"
        assert not RAN & set(site.states(rollout)), kind
        reasons[last["reason"]] += 1
    print(f"{count} copies: {dict(reasons)}")


def lost(site: OtaSite) -> float:
    """The share of its frames, of the whole run, by its own count; of a daemon that ended well and ran one model."""
    assert site.daemon.stop() == 0, site.daemon.log
    stats = site.stats()
    assert site.versions() == {"1.1.0"}
    assert set(stats["discards"]) <= {"shutdown", "superseded"}
    assert stats["frames"] == stats["predictions"] + sum(stats["discards"].values())
    assert (site.subscriber.payloads("/stats")[-1]["crashes"], site.subscriber.events("worker_failed")) == ({}, [])
    late = sum(item["latency_ms"]["total"] > 1000 / FPS for item in site.subscriber.predictions())
    print(f"{stats['frames']} frames, {stats['discards']} lost, {late} later than a period")
    return float(stats["discards"].get("superseded", 0) / stats["frames"])


def test_no_damaged_copy_is_tried_and_no_frame_is_lost(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    site = OtaSite(tmp_path, daemon)
    try:
        site.subscriber.wait_predictions(10)
        push_copies(site, 5)
        site.goes_on(FPS)
        assert lost(site) == 0
        predictions = site.subscriber.predictions()
        assert [item["frame_seq"] for item in predictions] == list(range(len(predictions)))
    finally:
        site.close()


@pytest.mark.soak
def test_two_hundred_cost_a_live_camera_no_more_frames_than_none(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    """A busy machine supersedes frames without any update: a second daemon, to which nothing is pushed, says how
    many."""
    sites: list[OtaSite] = []
    try:
        for name in ("pushed", "alone"):
            (tmp_path / name).mkdir()
            start = partial(daemon, XDG_STATE_HOME=str(tmp_path / name / "state"))
            sites.append(OtaSite(tmp_path / name, start, camera=('drop = "newest"',)))
            sites[-1].subscriber.wait_predictions(10)
        push_copies(sites[0], 200)
        pushed, alone = map(lost, sites)
        assert pushed <= alone + COST_MOST
    finally:
        for site in sites:
            site.close()
