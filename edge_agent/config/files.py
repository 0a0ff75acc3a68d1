"""Whether the files that a configuration names are there. Looks at files and changes none; ``check`` asks."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import Config
from edge_agent.config.sources import kind, rest
from edge_agent.config.words import show

ROOT_FILE = "update-root.json"  # beside agent.toml
_DATABASE = b"SQLite format 3\0"


class FileFindings(Struct, frozen=True):
    """Whole lines: what the daemon can't start with, and what a person should know."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check_files(loaded: LoadedConfig) -> FileFindings:
    """Look for each named file, relative to the folder of agent.toml. Never raises for what it finds."""
    problems, warnings = [], []
    for where, name in (*_public(loaded.config), *_secrets(loaded.config)):
        if problem := _problem(loaded.resolve(name)):
            problems.append(f"{loaded.path}: {where} = {show(name)}: {problem}")
    for where, pattern in _patterns(loaded.config):
        if not glob.glob(str(loaded.resolve(pattern)), recursive=True):  # noqa: PTH207 (the pattern may be absolute)
            problems.append(f"{loaded.path}: {where} = {show('images:' + pattern)}: no file fits that pattern")
    for where, name in _secrets(loaded.config):
        path = loaded.resolve(name)
        if not _problem(path) and path.stat().st_mode & stat.S_IROTH:
            text = f"everybody on this machine may read it: chmod o= {path}"
            warnings.append(f"{loaded.path}: {where} = {show(name)}: {text}")
    outbox = loaded.config.outbox.path
    if outbox is not None and (path := loaded.resolve(outbox)).exists():
        where = f"{loaded.path}: outbox.path = {show(outbox)}"
        if not path.is_file():
            problems.append(f"{where}: not a file; name one, it is made where there is none ({path})")
        elif _begins(path) not in (b"", _DATABASE):
            warnings.append(f"{where}: no outbox; the daemon will rename it and begin a new one ({path})")
    warnings += [f"{loaded.path}: {warning}" for warning in _wanted_for_updates(loaded)]
    return FileFindings(tuple(problems), tuple(warnings))


def _wanted_for_updates(loaded: LoadedConfig) -> Iterator[str]:
    update = loaded.config.update
    if update.repository is None:
        return
    name = update.root or ROOT_FILE
    if problem := _problem(loaded.resolve(name)):
        yield f"update.root = {show(name)}: {problem}: no update is taken until edge-fleet's root metadata is there"


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_DATABASE))
    except OSError:
        return b""


def _public(config: Config) -> Iterator[tuple[str, str]]:
    """Key path and name of each file that holds no secret."""
    yield from ((f"model.{name}.path", model.path) for name, model in config.model.items())
    for name, delegate in config.delegate.items():
        if delegate.library and "/" in delegate.library:  # a bare name is found by the dynamic linker
            yield f"delegate.{name}.library", delegate.library
    for table, items, wanted in (("camera", config.camera, "file"), ("sensor", config.sensor, "csv")):
        sources = [item.source for item in items]
        yield from ((f"{table}[{i}].source", rest(text)) for i, text in enumerate(sources) if kind(text) == wanted)
    if config.mqtt.tls:
        for key in ("ca", "certificate"):
            if (name := getattr(config.mqtt.tls, key)) is not None:
                yield f"mqtt.tls.{key}", name


def _secrets(config: Config) -> Iterator[tuple[str, str]]:
    if config.mqtt.password_file is not None:
        yield "mqtt.password_file", config.mqtt.password_file
    for i, camera in enumerate(config.camera):
        if camera.password_file is not None:
            yield f"camera[{i}].password_file", camera.password_file
    if config.mqtt.tls and config.mqtt.tls.key is not None:
        yield "mqtt.tls.key", config.mqtt.tls.key


def _patterns(config: Config) -> Iterator[tuple[str, str]]:
    sources = [camera.source for camera in config.camera]
    yield from ((f"camera[{i}].source", rest(text)) for i, text in enumerate(sources) if kind(text) == "images")


def _problem(path: Path) -> str:
    """Why a file can't be used; empty where it can."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return f"no such file ({path})"
    except OSError as error:
        return f"can't be looked at ({path}): {error.strerror}"
    if stat.S_ISDIR(status.st_mode):
        return f"a folder; expected a file ({path})"
    if not os.access(path, os.R_OK):
        return f"this user may not read it ({path})"
    return "" if status.st_size else f"the file is empty ({path})"
