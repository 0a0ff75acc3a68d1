"""Reading a camera until it says that it is lost."""

from __future__ import annotations

import pytest

from edge_agent.errors import DeviceError
from edge_agent.ports import Camera

FRAMES_MOST = 1000


def read_until_lost(camera: Camera) -> str:
    """Why it gives no more frames."""
    with pytest.raises(DeviceError) as lost:
        for _ in range(FRAMES_MOST):
            camera.grab()
    return str(lost.value)
