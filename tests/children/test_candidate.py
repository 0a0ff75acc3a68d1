"""What a child says of a candidate that it can't run: whose fault it is."""

from __future__ import annotations

import pytest

from edge_agent.children.candidate import Refusal, refusing
from edge_agent.errors import DeviceLostError, EdgeAgentError, ModelError
from edge_agent.rollouts import Reason


@pytest.mark.parametrize(("error", "final"), [(DeviceLostError("unplugged"), False), (ModelError("no"), True)])
def test_a_device_that_is_lost_during_the_examination_is_not_held_against_the_model(
    error: EdgeAgentError, final: bool
) -> None:
    with pytest.raises(Refusal) as refused, refusing(Reason.INVOKE):
        raise error
    assert refused.value.final is final
