"""Damaged copies of a good model, signed properly: none passes, and whatever a copy does, this process lives on."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from edge_agent.children.verify import Requirements, verify_model
from edge_agent.errors import UpdateError
from tests.simulators.mutants import KINDS, mutants
from tests.simulators.pushed import MODEL


@pytest.mark.parametrize("count", [len(KINDS), pytest.param(200, marks=pytest.mark.soak)])
def test_no_damaged_copy_passes(count: int, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    found: Counter[str] = Counter()
    for kind, copy in mutants(MODEL.read_bytes(), count):
        path.write_bytes(copy)
        with pytest.raises(UpdateError) as refused:
            verify_model(path, Requirements(sha256=hashlib.sha256(copy).hexdigest(), length=len(copy)))
        assert refused.value.final, f"{kind}: {refused.value}"
        found[refused.value.reason] += 1
    print(f"{count} copies: {dict(found)}")


def test_the_copy_itself_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(MODEL.read_bytes())
    assert verify_model(path, Requirements())["golden_samples"]
