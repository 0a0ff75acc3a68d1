"""What the devices last said of themselves: whether they are there, who they are, which models they run. Pure; whatever
a stranger publishes, nothing here raises and nothing unprintable comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from edge_agent.rollouts import UpdateState
from fleet.intake import read
from fleet.records import Availability, Info, Rollout

TOPICS = ("+/availability", "+/info", "+/update/status")
DEVICES_MOST = 100_000  # a broker that anybody writes to must not fill the memory
_BASE = "edge-agent"  # whatever the broker's is: topics come here without it
_TEXT_MOST = 300

T = TypeVar("T", bound=Struct)
_Share = Annotated[float, Meta(ge=0, le=1)]


class SlotSaid(Struct, frozen=True):
    version: str
    sha256: str
    seq: int = 0
    rollout: str = ""


class HeldSaid(Struct, frozen=True):
    current: SlotSaid
    pinned: bool = False


class LastSaid(Struct, frozen=True):
    """How the last update ended."""

    state: UpdateState
    model: str
    version: str
    sha256: str
    rollout: str
    reason: str | None = None
    detail: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


class CheckSaid(Struct, frozen=True):
    """``ok`` None: it has not looked for updates since its start."""

    ok: bool | None = None
    reason: str | None = None
    detail: str = ""


class StatusSaid(Struct, frozen=True):
    """``update/status``, as far as it is used here; additions are let through."""

    schema: Annotated[str, Meta(pattern=r"^edge-agent/update-status/1$")]
    state: UpdateState
    model: str | None = None
    version: str | None = None
    rollout: str | None = None
    progress: _Share | None = None
    reason: str | None = None
    detail: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    models: dict[str, HeldSaid] = field(default_factory=dict)
    last: LastSaid | None = None
    check: CheckSaid = CheckSaid()
    refused: dict[str, str] = field(default_factory=dict)  # by rollout: why it does not run there
    held_until: str | None = None


class _Who(Struct, frozen=True):
    groups: tuple[str, ...] = ()
    agent: str = ""
    profile: str = ""


class Device(Struct, frozen=True, kw_only=True):
    """``online`` None: nothing was heard of that. ``status`` None: it has said nothing of updates."""

    id: str
    online: bool | None = None
    groups: frozenset[str] = frozenset()
    agent: str = ""
    profile: str = ""
    status: StatusSaid | None = None


class FleetView:
    """All devices that were heard of, by name."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self.unreadable = 0  # messages that are none of these, or hold what they must not

    @property
    def devices(self) -> Mapping[str, Device]:
        return self._devices

    def hear(self, topic: str, payload: bytes) -> str | None:
        """``topic`` below the base. Returns the device whose entry changed."""
        row = read(_BASE, f"{_BASE}/{topic}", payload)
        if isinstance(row, Availability):
            return self._change(row.device, {"online": row.state == "online"})
        if isinstance(row, Info) and (who := _typed(row.payload, _Who)) is not None:
            return self._change(
                row.device, {"groups": frozenset(who.groups), "agent": who.agent, "profile": who.profile}
            )
        if isinstance(row, Rollout) and (status := _typed(row.payload, StatusSaid)) is not None:
            return self._change(row.device, {"status": status})
        self.unreadable += 1
        return None

    def _change(self, name: str, change: dict[str, Any]) -> str | None:
        before = self._devices.get(name)
        if before is None and len(self._devices) >= DEVICES_MOST:
            self.unreadable += 1
            return None
        after = msgspec.structs.replace(before or Device(id=name), **change)
        self._devices[name] = after
        return None if after == before else name


def printable(text: str) -> str:
    """What a stranger sent ends up in a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:_TEXT_MOST])


def _typed(payload: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError):
        return None
