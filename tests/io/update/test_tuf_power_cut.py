"""A power cut, or a disk that fails, at any moment of a refresh: nothing older is trusted afterwards, and the next
refresh brings what is new."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from edge_agent.rollouts import Reason
from tests.simulators.power_cut import FULL, READ_ONLY, Disk, Image, Recorder, look, place
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import TufRepository

TARGET = "models/hall/1.0.0.tflite"


class Story:
    """Three states of a repository: too old by now, on the device, and new (with a rotation of the online keys)."""

    def __init__(self, folder: Path) -> None:
        self.repository = TufRepository(folder / "repository")
        self.repository.add_model("hall", "1.0.0", b"one", 1)
        self.old = {
            f"metadata/{file.name}": file.read_bytes() for file in (self.repository.folder / "metadata").iterdir()
        }
        self.device = TufDevice(folder, self.repository)
        self.repository.add_model("hall", "1.0.0", b"two", 2)
        assert self.release() == 2
        self.repository.rotate("timestamp")
        self.repository.rotate("snapshot")
        self.repository.add_model("hall", "1.0.0", b"three", 3)

    def release(self) -> int:
        return self.device.refresh().release(TARGET).seq

    def holds(self) -> None:
        self.device.source.lies = dict(self.old)
        assert self.device.refused(self.release) is Reason.METADATA_REFUSED
        self.device.source.lies = {}
        assert self.release() == 3


def test_a_power_cut_at_any_moment_of_a_refresh_opens_no_way_back(tmp_path: Path) -> None:
    story = Story(tmp_path)
    folder = story.device.folder
    before = look(folder)
    recorder = Recorder(folder)
    with recorder.watch():
        assert story.release() == 3
    chance = random.Random(1)
    disk = Disk(before)
    images: set[Image] = {before}
    for step in recorder.steps:
        disk.play(step)
        images.update(disk.images(chance))
    for image in sorted(images, key=repr):
        place(image, folder)
        story.holds()
    print(f"{len(recorder.steps)} steps of a refresh, {len(images)} images of a power cut: none opens a way back")
    assert len(images) > 30


def test_a_power_cut_at_any_moment_of_the_first_refresh_is_mended_by_the_next(tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "repository")
    device = TufDevice(tmp_path, repository)
    device.folder.mkdir()
    recorder = Recorder(device.folder)
    with recorder.watch():
        device.refresh()
    chance = random.Random(2)
    disk = Disk()
    images: set[Image] = set()
    for step in recorder.steps:
        disk.play(step)
        images.update(disk.images(chance))
    for image in images:
        place(image, device.folder)
        device.refresh()
    print(f"{len(images)} images")


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power does not really go: thousands of syncs would only take time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize(("fault", "reason", "each"), [(FULL, Reason.DISK_FULL, 1), (READ_ONLY, Reason.DISK_FAILED, 6)])
def test_a_disk_that_fails_at_any_step_of_a_refresh_opens_no_way_back(
    tmp_path: Path, fault: int, reason: Reason, each: int
) -> None:
    story = Story(tmp_path)
    folder = story.device.folder
    before = look(folder)
    watching = Recorder(folder)
    with watching.watch():
        story.release()
    for step in range(0, len(watching.steps), each):
        place(before, folder)
        with Recorder(folder, fail=(step, fault)).watch():
            assert story.device.refused(story.release) is reason, watching.steps[step]
        story.holds()
    assert len(watching.steps) > 20
