"""A model under examination, inside a child: read and loaded as the daemon would, every refusal with its reason."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.assembly import LoadedModel, finish
from edge_agent.children.requirements import Requirements, request_for
from edge_agent.errors import ConfigError, DeviceLostError, EdgeAgentError
from edge_agent.io.model_file import read_model
from edge_agent.io.runtimes import PLAIN
from edge_agent.io.runtimes.choose import CPU_MEMBER, Choice, Chosen
from edge_agent.io.runtimes.litert import one_line
from edge_agent.loading import Loading, order_for
from edge_agent.records import ModelFile
from edge_agent.rollouts import Reason


class Refusal(Exception):  # noqa: N818 - a verdict, not a fault of this program
    """``final``: the model is at fault."""

    def __init__(self, reason: Reason, detail: str, *, final: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.final = final


@contextmanager
def refusing(reason: Reason) -> Iterator[None]:
    """Whatever goes wrong inside is the model's fault and has this reason; but for what is installed or configured
    here: then the two do not go together."""
    try:
        yield
    except Refusal:
        raise
    except MemoryError:
        raise Refusal(Reason.MEMORY, "it needs more memory than this device can spare", final=False) from None
    except DeviceLostError as error:  # no model's fault
        raise Refusal(reason, str(error), final=False) from None
    except EdgeAgentError as error:
        reason = Reason.INCOMPATIBLE if isinstance(error, ConfigError) else reason
        text = str(error).splitlines()[0].removesuffix("; add and adapt:")
        raise Refusal(Reason.MEMORY if "bad_alloc" in text or "MemoryError" in text else reason, text) from None
    except Exception as error:  # noqa: BLE001 - a damaged model may raise anything, anywhere
        raise Refusal(reason, one_line(f"{type(error).__name__}: {error}")) from None


def read_candidate(path: Path, requirements: Requirements) -> ModelFile:
    """The bytes that were signed, and a whole model. Raises Refusal."""
    with refusing(Reason.NOT_A_MODEL):
        length = path.stat().st_size
        if requirements.length is not None and length != requirements.length:
            raise Refusal(Reason.HASH, f"it has {length} bytes, signed are {requirements.length}", final=False)
        file = read_model(path)
        if requirements.sha256 and file.sha256 != requirements.sha256:
            raise Refusal(Reason.HASH, f"its sha256 is {file.sha256}, signed is {requirements.sha256}", final=False)
        if file.notes:  # the configuration's own model survives such damage; nobody pushes it on purpose
            raise Refusal(Reason.NOT_A_MODEL, file.notes[0])
        return file


def load_candidate(file: ModelFile, path: Path, requirements: Requirements) -> LoadedModel:
    """On the first back-end of the declared order that runs it; of a build for the Edge TPU, which belongs to the
    daemon, the CPU build inside; where no processor is declared and the daemon may have the device, on that too. Raises
    Refusal."""
    request = request_for(path, requirements)
    order = order_for(file, request.order)
    if file.form == "edgetpu":
        order = PLAIN
        if CPU_MEMBER not in file.members:
            raise Refusal(Reason.LOAD, f"it is compiled for the Edge TPU and carries no {CPU_MEMBER} to be tried first")
    elif file.form == "tflite" and not set(order) & set(PLAIN):
        order = (*order, *PLAIN)  # golden samples decide once more on the daemon's own device
    with refusing(Reason.INCOMPATIBLE):
        choice = _TellingChoice(
            file,
            order,
            threads=request.threads,
            external=request.external,
            cache_dir=request.cache_dir,
            library=request.config.runtime,
            behind=True,
        )
        _end_with(choice)
        return finish(Loading(request, file, choice))


def _end_with(choice: Choice) -> None:
    """When this child is told to end, the one that tries the back-end goes too."""

    def leave(*_: object) -> None:
        choice.cancel()
        os._exit(1)

    signal.signal(signal.SIGTERM, leave)


class _TellingChoice(Choice):
    """Its refusal is known as the back-ends', not the card's."""

    def result(self, *arguments: Any, **named: Any) -> Chosen:
        with refusing(Reason.LOAD):
            return super().result(*arguments, **named)
