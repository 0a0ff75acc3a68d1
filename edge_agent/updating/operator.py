"""The operator at the device, by ``edge-agent models`` beside a running daemon: wishes in, one-line answers out."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_steps import Ask, Happening, Wake
from edge_agent.io.update_requests import Answer, Request, Requests
from edge_agent.rollouts import UpdateState

_DONE = {"pin": "is pinned to what runs", "unpin": "follows the rollouts again", "rollback": "goes back"}


class OperatorDesk:
    """Used by the updater's thread."""

    def __init__(self, requests: Requests, machine: Machine) -> None:
        self._requests = requests
        self._machine = machine
        self._installing: str | None = None  # the request whose check is awaited
        self._began = False  # that check

    def wishes(self) -> Iterator[Happening]:
        """What is to be handled, one after the other; each is answered once it was."""
        for request in self._requests.waiting():
            if request.what == "install":
                if self._installing is None:
                    self._installing, self._began = request.id, False
                    yield Wake("operator", request.folder)
                elif self._installing != request.id:
                    self._answer(request, False, "another installation is under way: try again in a moment")
                continue
            ask = Ask(request.what, request.model)
            objection = self._machine.objection(ask)
            if objection is None:
                yield ask
            self._answer(request, objection is None, objection or f"{request.model} {_DONE[request.what]}")

    def tell_results(self) -> None:
        """Of the check that an installation asked for, as soon as it is over."""
        if self._installing is None:
            return
        status = self._machine.status()
        if status.state is UpdateState.CHECKING:
            self._began = True
            return
        candidate = status.candidate
        if not self._began and candidate is None:
            return  # it has not begun
        if candidate is not None:
            text = f"{candidate.release.name} {candidate.release.version} is good to be fetched; see update/status"
            answer = Answer(True, f"{text}, or edge-agent models")
        else:
            answer = Answer(bool(status.check.ok), status.check.detail or "nothing new for this device")
        self._requests.answer(self._installing, answer)
        self._installing = None

    def _answer(self, request: Request, ok: bool, text: str) -> None:
        self._requests.answer(request.id, Answer(ok, text))
