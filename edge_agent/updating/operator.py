"""The operator at the device, by ``edge-agent models`` beside a running daemon: wishes in, one-line answers out."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_steps import Ask, Checked, Failed, Happening, Wake
from edge_agent.io.update_requests import Answer, Request, Requests
from edge_agent.rollouts import Held, Reason

_DONE = {"pin": "is pinned to what runs", "unpin": "follows the rollouts again", "rollback": "goes back"}


class OperatorDesk:
    """Used by the updater's thread."""

    def __init__(self, requests: Requests, machine: Machine) -> None:
        self._requests = requests
        self._machine = machine
        self._installing: Request | None = None  # its check is awaited
        self._looking = False  # that check is under way; another one may be before it

    def wishes(self) -> Iterator[Happening]:
        """What is to be handled, one after the other; each is answered once it was."""
        for request in self._requests.waiting():
            if request.what == "install":
                if self._installing is None:
                    self._installing, self._looking = request, False
                    yield Wake("operator", request.folder)
                elif self._installing.id != request.id:
                    self._answer(request, False, "another installation is under way: try again in a moment")
                continue
            ask = Ask(request.what, request.model)
            objection = self._machine.objection(ask)
            if objection is None:
                yield ask
                objection = self._undone(ask)
            self._answer(request, objection is None, objection or f"{request.model} {_DONE[request.what]}")
        if self._installing is not None and self._machine.status().check.reason is Reason.CLOCK:
            self._installed(False, self._machine.status().check.detail)  # it is not even begun

    def check_begins(self, source: str | None) -> None:
        """``source``: as Check has it."""
        self._looking = self._installing is not None and source == self._installing.folder

    def check_cancelled(self) -> None:
        if self._looking:
            self._installed(False, "something else came between: try again in a moment")

    def answered(self, answer: object) -> None:
        """Of the errand under way."""
        if not self._looking:
            return
        if isinstance(answer, Failed):
            self._installed(False, answer.detail)
        elif isinstance(answer, Checked) and answer.candidate is None:
            self._installed(answer.refused is None, answer.detail or "nothing new for this device")
        elif isinstance(answer, Checked) and answer.candidate is not None:
            release = answer.candidate.release
            text = f"{release.name} {release.version} is good to be fetched; see update/status, or edge-agent models"
            self._installed(True, text)

    def _undone(self, ask: Ask) -> str | None:
        """Why it was not done after all, as a sentence: the state could not be written down."""
        status = self._machine.status()
        held = status.device.models.get(ask.model, Held())
        if ask.what == "rollback" or held.pinned == (ask.what == "pin"):
            return None
        return f"{ask.model}: nothing was changed: {status.detail}"

    def _installed(self, ok: bool, text: str) -> None:
        request, self._installing, self._looking = self._installing, None, False
        if request is not None:
            self._answer(request, ok, text)

    def _answer(self, request: Request, ok: bool, text: str) -> None:
        self._requests.answer(request.id, Answer(ok, text))
