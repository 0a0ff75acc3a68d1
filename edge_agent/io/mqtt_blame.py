"""What the end of a connection means: for the messages under way, for the next attempt, and for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.config.schema import MqttConfig
from edge_agent.io.mqtt_link import Link, Session
from edge_agent.io.mqtt_pace import SHORT_S, SHORT_TIMES, Pace
from edge_agent.io.mqtt_suspect import LOSSES, Suspect, Verdict
from edge_agent.outgoing import Refusal

log = logging.getLogger("edge_agent")

SAME_FAULT_S = 60.0  # the same words are not said again within
OWN_ID = "give each device its own [device] id or [mqtt] client_id"


class Blame:
    """``suspect`` and ``pace`` are its memory; ``fault`` hears what a person must mend. Used by the network thread."""

    def __init__(
        self, config: MqttConfig, client_id: str, suspect: Suspect, pace: Pace, fault: Callable[[str, str], None]
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._suspect = suspect
        self._pace = pace
        self._fault = fault
        self._told: dict[tuple[str, str], float] = {}  # faults and when

    def ended(self, session: Session, link: Link, now_s: float) -> Verdict:
        """A connection ended, or was never accepted; not by an exception."""
        if link.taken_over:
            self._pace.taken_over(now_s)
            self.tell("client_id_taken", f"another client connects as {self._client_id!r}: {OWN_ID}", now_s)
        elif link.malformed:
            self._pace.misbehaved()
            self.tell("broker_misbehaves", link.why(self._config), now_s)
        elif link.closed_by_peer and session.in_flight:
            return Verdict.NOTHING if link.answered else self._suspect.lost(session.in_flight)
        elif link.closed_by_peer and not link.by_packet and self._pace.closed(now_s, now_s - (link.accepted_s or 0)):
            short = (
                f"the broker closed the connection within {SHORT_S:g} s of accepting it, {SHORT_TIMES} times in a row"
            )
            self.tell(
                "client_id_taken", f"{short}: perhaps another client connects as {self._client_id!r}: {OWN_ID}", now_s
            )
        return Verdict.NOTHING

    def misbehaved(self, error: Exception, now_s: float) -> str:
        """What the broker sent made paho raise. Returns it in one line."""
        where = f"{self._config.host}:{self._config.port}"
        text = f"{where} sent what can't be understood: {type(error).__name__}: {error}"
        if self.tell("broker_misbehaves", f"{text}; check the broker and what lies between", now_s):
            log.warning("broker: %s", text, exc_info=error)
        self._pace.misbehaved()
        return text

    def tell(self, kind: str, detail: str, now_s: float) -> bool:
        """Returns whether it was said: the same is said once a minute."""
        self._told = {said: at_s for said, at_s in self._told.items() if now_s - at_s < SAME_FAULT_S}
        if (kind, detail) in self._told:
            return False
        self._told[kind, detail] = now_s
        self._fault(kind, detail)
        return True


def condemned(link: Link) -> Refusal:
    """The last word on the message that was alone on the wire each time."""
    said = f" ({link.reason})" if link.by_packet else ""
    return Refusal(f"the broker closed the connection {LOSSES} times on receiving it{said}", True)
