"""What the worker of drift gets to see: at most two frames a second, and never more than fits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.core.wire import Identity
from edge_agent.monitoring import Observation
from edge_agent.records import Frame, Latency, ModelIdentity, Prediction
from edge_agent.stages import watch
from edge_agent.stages.watch import PERIOD_NS, Published, Seen, Watch
from tests.simulators.tiny_models import tiny_engine

ENGINE = tiny_engine("1", features={"warmth": {}})


def frame(mono_ns: int, level: int = 100) -> Frame:
    return Frame("belt", 0, mono_ns, mono_ns, "arrival", np.full((8, 8, 3), level, np.uint8))


def filled(level: int) -> dict[str, np.ndarray]:
    tensors = ENGINE.image_slot()
    ENGINE.prepare(np.full((8, 8, 3), level, np.uint8), tensors)
    return tensors


def prediction(seq: int) -> Prediction:
    latency = Latency(0, 0, 0, 0, 0, 0)
    return Prediction("inspect", seq, seq, "arrival", ModelIdentity("tiny", "1", "1"), "cpu", latency, {})


def seen(number: int) -> Seen:
    return Seen(ENGINE, Observation(number, {}, {}, None, {}, {}), prediction(number), None, None)


@pytest.mark.parametrize("fps", [1, 30, 200])
def test_at_most_two_frames_a_second_are_looked_at(fps: int) -> None:
    tap = Watch(keep_pixels=False)
    times = [round(number * 1e9 / fps) for number in range(10 * fps)]
    looked = [mono_ns for mono_ns in times if tap.look(ENGINE, filled(100), frame(mono_ns)) is not None]
    assert len(looked) == min(10 * fps, 20)
    assert all(later - earlier >= PERIOD_NS for earlier, later in itertools.pairwise(looked))


def test_time_that_begins_anew_is_looked_at_at_once() -> None:
    tap = Watch(keep_pixels=False)
    assert tap.look(ENGINE, filled(100), frame(90 * 10**9)) is not None
    assert tap.look(ENGINE, filled(100), frame(0)) is not None  # the file was opened again


def test_the_statistics_are_those_of_the_tensor_and_the_picture_is_copied_only_where_it_is_kept() -> None:
    bright = Watch(keep_pixels=False).look(ENGINE, filled(200), frame(0))
    assert bright is not None
    assert bright.pixels is None
    assert bright.picture is not None
    assert bright.picture[0] == pytest.approx(200, abs=1)
    picture = frame(0)
    kept = Watch(keep_pixels=True).look(ENGINE, filled(200), picture)
    assert kept is not None
    assert kept.pixels is not None
    picture.pixels[:] = 0  # the camera uses its memory again
    assert int(kept.pixels.min()) == 100


def test_an_image_that_another_camera_fills_has_its_statistics_as_soon_as_it_is_there() -> None:
    tap = Watch(keep_pixels=True)
    look = tap.look(ENGINE, {}, frame(0))
    assert look is not None
    assert look.picture is None
    assert tap.complete(look, ENGINE, {}) is look
    whole = tap.complete(look, ENGINE, filled(200))
    assert whole.picture is not None
    assert whole.picture[0] == pytest.approx(200, abs=1)
    assert whole.pixels is look.pixels


def test_an_image_of_another_camera_that_can_not_be_looked_at_is_told_and_costs_nothing() -> None:
    tap = Watch(keep_pixels=False)
    look = tap.look(ENGINE, {}, frame(0))
    assert look is not None
    assert tap.complete(look, ENGINE, {"image": np.zeros(3, np.float32)}) is look
    assert tap.take().failure is not None


def test_what_the_worker_does_not_take_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SEEN_MOST", 3)
    monkeypatch.setattr(watch, "PUBLISHED_MOST", 2)
    tap = Watch(keep_pixels=False)
    for number in range(5):
        tap.seen(seen(number))
        tap.published(Published(Identity("d", "b", number), prediction(number), {}))
    waiting = tap.take()
    assert [item.prediction.frame_seq for item in waiting.seen] == [2, 3, 4]
    assert [item.identity.seq for item in waiting.published] == [3, 4]
    assert waiting.given_up == 2 + 3
    assert tap.take() == watch.Waiting([], [], 0)
