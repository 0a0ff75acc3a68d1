"""Which message makes the broker hang up. Pure: values in, a verdict out.

Many brokers close the connection on a message that they will not take (3.1.1 has no other way to say no), and a client
that sends it again after reconnecting, as it must, is thrown out for ever. So: several losses in a row without one
acknowledgement put the messages under suspicion; from then on they go one at a time, until the one that is alone on the
wire each time is found, or the suspicion has proved wrong.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from edge_agent import limits

LOSSES: Final = 5  # in a row, without an acknowledgement in between
# Acknowledgements, one message at a time, until it is held for innocent. Other messages may well go before the one that
# is looked for, so each suspicion that found nothing makes the next search longer.
INNOCENT_FIRST: Final = limits.INFLIGHT_MOST
INNOCENT_LAST: Final = 64 * limits.INFLIGHT_MOST


class Verdict(Enum):
    NOTHING = "nothing to do"
    ISOLATE = "begin anew, one message at a time"
    CONDEMN = "the only message under way is to blame"


class Suspect:
    def __init__(self) -> None:
        self.alone = False  # one message at a time
        self._losses = 0
        self._left = 0
        self._innocent = INNOCENT_FIRST

    def acknowledged(self) -> None:
        """The broker answered a message, with yes or no."""
        self._losses = 0
        if self.alone:
            self._left -= 1
            self.alone = self._left > 0

    def lost(self, in_flight: int) -> Verdict:
        """The broker closed an accepted connection, without a reason that clears the messages, while so many were
        unacknowledged."""
        if in_flight == 0 or (self.alone and in_flight > 1):
            return Verdict.NOTHING
        self._losses += 1
        if self._losses < LOSSES:
            return Verdict.NOTHING
        self._losses = 0
        if self.alone:
            self._left, self._innocent = 1, INNOCENT_FIRST  # the next one may be as bad: alone until one gets through
            return Verdict.CONDEMN
        self.alone, self._left = True, self._innocent
        self._innocent = min(4 * self._innocent, INNOCENT_LAST)
        return Verdict.ISOLATE
