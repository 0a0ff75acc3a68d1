"""The few families of error, named by who must act. Each knows the exit code of the command it ends.

A message says what was found, where, what is allowed and what to do next; it is one line, without a traceback.
"""

from __future__ import annotations


class EdgeAgentError(Exception):
    """Anything that this program reports to a person in one line."""

    exit_code = 1


class ConfigError(EdgeAgentError):
    """The operator must change the configuration or the command line."""

    exit_code = 2


class ModelError(EdgeAgentError):
    """Whoever made or pushed the model must act: the file can't be used."""

    exit_code = 2


class RunError(ModelError):
    """A back-end did not run the model on this input: whether the model or the device is at fault is not known."""


class DeviceError(EdgeAgentError):
    """The hardware must be attached, freed or mended: a camera, a sensor, an accelerator."""

    exit_code = 3


class NoDeviceError(DeviceError):
    """An accelerator's library works, and found no device that this process can have."""


class DeviceLostError(DeviceError):
    """The device, or the process that drives it, is gone in the middle of a run: another back-end must take over."""


class TransportError(EdgeAgentError):
    """The network or the broker must come back."""

    exit_code = 1


class RefusedError(TransportError):
    """The broker said what it takes, and this message is none of it: trying again would change nothing."""


class StorageError(EdgeAgentError):
    """The disk must be freed or mended. ``damaged``: the file itself, not the room on the disk; ``readable``: there is
    no room to write, and what is there can be read."""

    exit_code = 1

    def __init__(self, message: str, *, damaged: bool = False, readable: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged
        self.readable = readable


class NotThereError(TransportError):
    """The repository answers, and has no such file."""


class TooLargeError(TransportError):
    """The repository answers with more bytes than are taken."""


class UpdateError(EdgeAgentError):
    """An update came to nothing; what runs goes on. ``reason``: a ``rollouts.Reason``; ``final``: the model is at
    fault, not the world around it."""

    def __init__(self, reason: str, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.final = final


class FrameError(EdgeAgentError):
    """One frame can't be decoded; its source goes on. Counted as ``unreadable``, never ends a thread."""
