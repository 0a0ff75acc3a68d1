"""What a model file brings to measure drift from: used where it fits, told where it does not, in nobody's way."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from edge_agent.core.card_schema import Budgets, Feature, FeaturesInput, Golden, RegressionOutput
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.carried import Carried, carried
from edge_agent.core.drift.reference import encode_reference, make_reference
from edge_agent.core.model_card import ResolvedCard
from edge_agent.monitoring import REFERENCE_MEMBER
from tests.core.tensors import spec

FEATURES = FeaturesInput(tensor="s", features=(Feature(name="warmth", unit="degC"), Feature(name="load", unit="N")))
OUTPUT = RegressionOutput(tensor="y", name="wear", unit="mm")
CARD = ResolvedCard("m", "1", (), (FEATURES,), (), (OUTPUT,), {}, Budgets(), Golden(), ())
OUTPUTS = [spec("y", (1, 1))]
NAMES = (
    FeatureSpec("wear.value", "prediction", unit="mm"),
    FeatureSpec("load", "sensor", unit="N"),
    FeatureSpec("warmth", "sensor", unit="degC"),
)
ROWS = np.random.default_rng(1).normal(0, 1, (500, 3))


def member(*names: FeatureSpec) -> bytes:
    return encode_reference(make_reference(names, ROWS[:, : len(names)]))


def found(content: bytes) -> Carried:
    return carried({REFERENCE_MEMBER: content}, CARD, OUTPUTS)


def test_without_a_reference_there_is_nothing_and_nothing_wrong() -> None:
    assert carried({"labels.txt": b"x"}, CARD, OUTPUTS) == Carried()


def test_a_reference_comes_in_the_order_of_the_models_features() -> None:
    reference = found(member(*NAMES)).reference
    assert reference is not None
    assert [feature.name for feature in reference.binning] == ["warmth", "load", "wear.value"]
    warmth = make_reference(NAMES, ROWS).counts[2]
    assert reference.counts[0] == warmth


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (NAMES[:2], 'lacks "warmth"'),
        ((*NAMES[:2], FeatureSpec("pressure", "sensor")), '"pressure", which is no feature'),
        ((*NAMES[:2], FeatureSpec("warmth", "sensor", unit="K")), '"warmth"'),
        ((*NAMES[:2], FeatureSpec("warmth", "image", unit="degC")), '"warmth" belongs to "image"'),
        ((*NAMES[:2], FeatureSpec("warmth", "sensor", "class")), '"warmth" is a class feature'),
    ],
)
def test_one_that_does_not_belong_to_the_model_is_not_used_and_says_why(
    names: tuple[FeatureSpec, ...], said: str
) -> None:
    result = found(member(*names))
    assert result.reference is None
    assert said in result.fault


def test_whatever_the_member_holds_the_model_runs() -> None:
    good = member(*NAMES)
    chance = random.Random(5)
    contents = [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", good[:-1]]
    for _ in range(300):
        changed = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.choice(b'0123456789-."[]{},eE\x00\xff')
        contents.append(bytes(changed))
    used = 0
    for content in contents:
        result = found(content)
        used += result.reference is not None
        assert (result.reference is None) == bool(result.fault)
        assert len(result.fault) < 2000
    assert used < len(contents)


def test_parts_of_another_kind_are_refused() -> None:
    said = msgspec.json.decode(member(*NAMES))
    for key in said:
        for value in (None, -1, "x", [], {}, [[]], 1e400):
            if said[key] != value:
                result = found(msgspec.json.encode({**said, key: value}))
                assert (result.reference is None) == bool(result.fault)
