"""``update/status`` on its way to the broker."""

from __future__ import annotations

from msgspec.structs import replace

from edge_agent.core.update_status import CheckResult, UpdateStatus, status_body
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.parts import Parts
from edge_agent.rollouts import Held, Reason, UpdateState
from edge_agent.updating.start import UpdateStart


def status_record(parts: Parts, status: UpdateStatus) -> Record:
    """It names every model of the configuration, also those of which nothing is kept."""
    known = {name: Held() for name in parts.config.model} | status.device.models
    status = replace(status, device=replace(status.device, models=known))
    body = status_body(status, parts.topics.device, parts.boot_id)
    # not for the disk: state.json has all that a later run has to say of it, and says it at each connection
    return Record(Kind.STATE, parts.topics.update_status, Schema.UPDATE, body, parts.clock.monotonic_ns(), retain=True)


def refusal_record(parts: Parts, start: UpdateStart) -> Record:
    """Where nothing can be changed: what runs, and why it stays so. What was retained before would go on speaking."""
    now_ns = parts.clock.wall_ns(parts.clock.monotonic_ns())
    check = CheckResult(now_ns, False, Reason.DISK_FAILED, start.refusal)
    status = UpdateStatus(
        state=UpdateState.IDLE, device=start.state, reason=Reason.DISK_FAILED, detail=start.refusal, check=check
    )
    return status_record(parts, status)
