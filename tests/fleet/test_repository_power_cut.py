"""A cut after each file that an operation writes: what is left is a repository that every device takes, as it was
before or is after, and that the operator can go on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.rollouts import Audience
from fleet.metadata_files import ROLES
from fleet.releases import find_release, publish
from fleet.repository import Repository, open_repository
from fleet.rollout_book import RolloutBook
from fleet.rotation import refresh, revoke, rotate
from tests.fleet.repository_world import NOW, Device, Images, Operator, model

EVERYONE = Audience(everyone=True)


def _begin(repository: Repository) -> None:
    RolloutBook(repository).begin(find_release(repository, "hall"), EVERYONE)


CHANGES: dict[str, Callable[[Repository], object]] = {
    "publish": lambda repository: publish(repository, model(b"new"), "hall", "3.0.0"),
    "begin": _begin,
    "roll back": lambda repository: RolloutBook(repository).roll_back("hall"),
    "refresh all": lambda repository: refresh(repository, ROLES),
    "revoke a root key": lambda repository: revoke(repository, "root", "root-2"),
    **{f"rotate {role}": lambda repository, role=role: rotate(repository, role) for role in ROLES},  # type: ignore[misc]
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_cut_at_any_time_leaves_a_good_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    operator = Operator(tmp_path / "repo", "fleet")
    one, two = operator.publish("1.0.0"), operator.publish("2.0.0")
    with operator.book() as book:
        book.begin(one, EVERYONE)
        book.begin(two, EVERYONE, percent=10.0)
    old = Device(tmp_path / "old", operator.folder, operator.first_root)
    before = old.check()

    with monkeypatch.context() as patch:
        images = Images(patch, operator, tmp_path / "images")
        with operator.opened() as repository:
            CHANGES[change](repository)
    after = Device(tmp_path / "after", operator.folder, operator.first_root).check()

    assert images.taken
    for number, image in enumerate(images.taken):
        for device in (
            old.at(image, tmp_path / "old at" / str(number)),
            Device(tmp_path / "new at" / str(number), image, operator.first_root),
        ):
            assert device.check() in (before, after)
        with open_repository(image, NOW) as repository:
            RolloutBook(repository).pause("hall")
        assert device.check().rollouts[-1].state == "paused"
        assert device.fetch(two.target)[1]
