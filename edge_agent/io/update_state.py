"""state.json: what the device knows of its models, with a checksum, and a spare copy for a disk that damages one.

The rename of state.json is the commit; the spare follows it, and is looked at only where state.json can't be used.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.errors import StorageError
from edge_agent.io.durable import write_whole
from edge_agent.rollouts import DeviceState, Outcome

SCHEMA: Final = "edge-agent/update-state/1"
STATE: Final = "state.json"
SPARE: Final = "state.spare.json"
DAMAGED: Final = "state.damaged.json"
BYTES_MOST: Final = 16 * 2**20


class Found(Struct, frozen=True):
    """``damage`` None: all is well, or nothing was ever written. Else one line of what was found, and what counts."""

    state: DeviceState
    damage: str | None = None


class _Envelope(Struct, frozen=True):
    schema: str
    sha256: str  # of the bytes of ``state`` as they stand in the file
    state: msgspec.Raw


def encode(state: DeviceState) -> bytes:
    """The file's content."""
    if state.last is not None:
        state = replace(state, last=_writable(state.last))
    body = msgspec.json.encode(state)
    return msgspec.json.encode(_Envelope(SCHEMA, hashlib.sha256(body).hexdigest(), msgspec.Raw(body))) + b"\n"


def decode(content: bytes) -> DeviceState:
    """Raises ValueError that says, after "it ", why this can't be used."""
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
        if envelope.schema != SCHEMA:
            raise ValueError(f"has the schema {envelope.schema!r}, not {SCHEMA!r}")
        if hashlib.sha256(envelope.state).hexdigest() != envelope.sha256:
            raise ValueError("does not have the checksum that it names")
        return msgspec.json.decode(envelope.state, type=DeviceState)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is damaged ({error})") from error


def load(folder: Path) -> Found:
    """What counts in this folder. Changes nothing. Raises StorageError where a file is there, can't be read just now,
    and no other stands in for it: nothing may be written over it before somebody has looked."""
    first = _look(folder / STATE)
    if first.state is not None:
        return Found(first.state)
    spare = _look(folder / SPARE)
    if spare.state is not None:
        return Found(spare.state, f"{folder / STATE} {first.why}; its copy counts")
    if first.missing and spare.missing:
        return Found(DeviceState())
    found = f"{folder / STATE} {first.why}, and its copy {spare.why}"
    if first.unreadable or spare.unreadable:
        raise StorageError(f"{found}; may this user read it, is the disk in order?")
    return Found(DeviceState(), f"{found}: the factory models run, and are updated anew")


def save(folder: Path, content: bytes, *, keep_damaged: bool = False) -> None:
    """Commit. ``keep_damaged``: what stands there now is put beside for a person to look at. Raises OSError, after
    which a power cut may find either state, and nothing else."""
    if keep_damaged:
        with contextlib.suppress(FileNotFoundError):
            (folder / STATE).replace(folder / DAMAGED)
    write_whole(folder / STATE, content)
    # committed, whatever becomes of the copy: an older one is better than none
    with contextlib.suppress(OSError):
        write_whole(folder / SPARE, content)


class _Look(Struct, frozen=True):
    """``why``: what is the matter, to follow the file's name."""

    state: DeviceState | None = None
    why: str = ""
    missing: bool = False
    unreadable: bool = False  # now: the disk or the rights may be mended


def _look(path: Path) -> _Look:
    try:
        with path.open("rb") as file:
            return _Look(decode(file.read(BYTES_MOST)))
    except FileNotFoundError:
        return _Look(why="is gone", missing=True)
    except ValueError as error:
        return _Look(why=str(error))
    except OSError as error:
        return _Look(why=f"can't be read ({error.strerror or error})", unreadable=True)


def _writable(outcome: Outcome) -> Outcome:
    """JSON has no NaN and no half characters, and a state that can be written must be readable again."""
    evidence = {
        _text(name): str(value)
        if isinstance(value, float) and not math.isfinite(value)
        else _text(value)
        if isinstance(value, str)
        else value
        for name, value in outcome.evidence.items()
    }
    return replace(outcome, detail=_text(outcome.detail), evidence=evidence)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
