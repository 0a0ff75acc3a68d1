"""What can go wrong on the workstation and is nobody's configuration: with the exit code of the contract."""

from __future__ import annotations

from edge_agent.errors import EdgeAgentError


class BoundMissedError(EdgeAgentError):
    """A good run with a bad result: no step kept the loss within the bound. Nothing was written."""

    exit_code = 1


class EnvironmentMissingError(EdgeAgentError):
    """The packages for this kind of source are not installed; the message gives the command that installs them."""

    exit_code = 2


class WorkerFailedError(EdgeAgentError):
    """A child process died or could not do its job; the message has its last words."""

    exit_code = 1
