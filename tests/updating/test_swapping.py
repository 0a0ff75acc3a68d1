"""A model that only some of its pipelines could take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge_agent.errors import UpdateError
from edge_agent.rollouts import Reason
from edge_agent.updating.swapping import Swapping


def test_nothing_is_said_of_a_model_that_takes_over_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(name="left", model="m"), SimpleNamespace(name="right", model="m")
    pipelines = {one.name: SimpleNamespace(config=one) for one in config}
    closed, followed = [], []
    engine = SimpleNamespace(runtime=SimpleNamespace(close=lambda: closed.append(1)))
    answers = iter([SimpleNamespace(engine=engine), UpdateError(Reason.GOLDEN, "others", final=True)])

    def build(*_: object) -> object:
        answer = next(answers)
        if isinstance(answer, UpdateError):
            raise answer
        return answer

    parts = SimpleNamespace(pipelines=pipelines, follow=lambda name, _model: followed.append(name))
    swapping = Swapping(cast(Any, parts), cast(Any, None))
    monkeypatch.setattr(swapping, "_build", build)
    with pytest.raises(UpdateError, match="others"):
        swapping._route("m", Path("model.tflite"), "2.0.0", 1.0)
    assert (closed, followed) == ([1], [])
