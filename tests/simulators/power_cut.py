"""A power cut at any moment of a program that works in a folder: what it does there is noted step by step, and a model
of the disk plays the steps again and shows every folder that a cut could leave.

Of a file only what was synced is safe: of later writes nothing, half, all, zeros in their place, or some blocks may be
there. Of a folder's names only what happened before its own last sync is: of later ones the first few may be there, or
all but one. Nothing is really synced meanwhile, so that thousands of folders can be looked at.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

BLOCK = 512  # bytes that a disk writes whole
Image = tuple[tuple[str, bytes | None], ...]
"""Every name below the folder, in order; None: a folder."""


@dataclass(frozen=True)
class Step:
    """``what``: create, write, sync, rename (to ``other``), unlink, mkdir, rmdir. Paths are relative to the folder;
    the folder itself is "."."""

    what: str
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


class Recorder:
    """Notes what is done below ``folder`` while ``watch`` lasts, and with each step what ``mark`` returns just before
    it. ``fail``: the step of that number, and all after it, raise OSError with that errno instead."""

    def __init__(
        self, folder: Path, mark: Callable[[], Any] = lambda: None, *, fail: tuple[int, int] | None = None
    ) -> None:
        self.steps: list[Step] = []
        self.marks: list[Any] = []
        self._folder, self._mark, self._fail = folder, mark, fail
        self._open: dict[int, str] = {}
        self._real_open, self._real_write, self._real_rmdir = os.open, os.write, os.rmdir
        self._real_unlink, self._real_replace, self._real_mkdir = Path.unlink, Path.replace, Path.mkdir

    @contextmanager
    def watch(self) -> Iterator[None]:
        with (
            patch.object(os, "open", self._os_open),
            patch.object(os, "write", self._os_write),
            patch.object(os, "fsync", self._os_fsync),
            patch.object(os, "rmdir", self._os_rmdir),
            patch.object(Path, "unlink", lambda path, missing_ok=False: self._path_unlink(path, missing_ok)),
            patch.object(Path, "replace", lambda path, target: self._path_replace(path, Path(target))),
            patch.object(Path, "mkdir", lambda path, **options: self._path_mkdir(path, options)),
        ):
            yield

    def _note(self, step: Step) -> None:
        """Before it is done."""
        if self._fail is not None and len(self.steps) >= self._fail[0]:
            raise OSError(self._fail[1], os.strerror(self._fail[1]), str(self._folder / step.path))
        self.marks.append(self._mark())
        self.steps.append(step)

    def _ours(self, path: Any) -> bool:
        return f"{path}/".startswith(f"{self._folder}/")

    def _name(self, path: Path | str) -> str:
        return str(path)[len(str(self._folder)) + 1 :] or "."

    def _os_open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if self._ours(path) and flags & os.O_CREAT and not os.path.lexists(path):
            self._note(Step("create", self._name(path)))
        descriptor = self._real_open(path, flags, *rest, **options)
        self._open.pop(descriptor, None)  # of a file that was closed
        if self._ours(path):
            self._open[descriptor] = self._name(path)
        return descriptor

    def _os_write(self, descriptor: int, data: Any) -> int:
        if (path := self._open.get(descriptor)) is not None:
            self._note(Step("write", path, offset=os.fstat(descriptor).st_size, data=bytes(data)))
        return self._real_write(descriptor, data)

    def _os_fsync(self, descriptor: int) -> None:
        if (path := self._open.get(descriptor)) is not None:
            self._note(Step("sync", path))

    def _os_rmdir(self, path: Any, *rest: Any, **options: Any) -> None:
        if self._ours(path):
            self._note(Step("rmdir", self._name(path)))
        self._real_rmdir(path, *rest, **options)

    def _path_unlink(self, path: Path, missing_ok: bool) -> None:
        if self._ours(path) and os.path.lexists(path):
            self._note(Step("unlink", self._name(path)))
        self._real_unlink(path, missing_ok)

    def _path_replace(self, path: Path, target: Path) -> Path:
        if self._ours(path) and path.exists():
            self._note(Step("rename", self._name(path), self._name(target)))
        return self._real_replace(path, target)

    def _path_mkdir(self, path: Path, options: dict[str, Any]) -> None:
        if self._ours(path) and not path.exists():
            self._note(Step("mkdir", self._name(path)))
        self._real_mkdir(path, **options)


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.safe = content
        self.loose: list[Step] = []

    def content(self, fate: str, chance: random.Random) -> bytes:
        whole = bytearray(self.safe)
        for step in () if fate == "nothing" else self.loose:
            data = step.data[: len(step.data) // 2] if fate == "half" else step.data
            whole.extend(bytes(max(0, step.offset + len(data) - len(whole))))
            for start in range(0, len(data), BLOCK):
                block = data[start : start + BLOCK]
                if fate == "zeros" or (fate == "torn" and chance.random() < 0.5):
                    block = bytes(len(block))  # its place was taken, its bytes did not arrive
                whole[step.offset + start : step.offset + start + len(block)] = block
        return bytes(whole)


Names = dict[str, "_File | None"]


class Disk:
    """``image``: what was there before the first step."""

    def __init__(self, image: Image = ()) -> None:
        self._safe: Names = {path: None if content is None else _File(content) for path, content in image}
        self._live: Names = dict(self._safe)
        self._loose: list[tuple[Step, _File | None]] = []  # changes of names that no sync of their folder followed

    def play(self, step: Step) -> None:
        if step.what == "write":
            file = self._live[step.path]
            assert file is not None
            file.loose.append(step)
        elif step.what == "sync":
            self._sync(step.path)
        else:
            file = _File() if step.what == "create" else self._live.get(step.path)
            self._loose.append((step, file))
            _rename(self._live, step, file)

    def _sync(self, path: str) -> None:
        file = self._live.get(path)
        if file is not None:
            file.safe, file.loose = file.content("all", random.Random(0)), []
            return
        for step, changed in self._loose:
            if path in _folders(step):
                _rename(self._safe, step, changed)
        self._loose = [(step, changed) for step, changed in self._loose if path not in _folders(step)]

    def now(self) -> Image:
        """As the program sees it."""
        return _image(self._live, "all", random.Random(0))

    def images(self, chance: random.Random) -> Iterator[Image]:
        """What a cut could leave now; some may be the same."""
        loose = self._loose
        chosen = [loose[:count] for count in range(len(loose) + 1)]
        chosen += [loose[:gone] + loose[gone + 1 :] for gone in range(len(loose) - 1)]
        for changes in chosen:
            names = dict(self._safe)
            for step, file in changes:
                _rename(names, step, file)
            dirty = any(file is not None and file.loose for file in names.values())
            for fate in ("all", "nothing", "half", "zeros", "torn") if dirty else ("all",):
                yield _image(names, fate, chance)


def _rename(names: Names, step: Step, file: _File | None) -> None:
    """The change of names of a step; of one whose predecessor was lost, what is left of it."""
    if step.what in ("create", "mkdir"):
        names[step.path] = file
    elif step.what == "rename":
        names.pop(step.path, None)
        names[step.other] = file
    else:
        names.pop(step.path, None)


def _folders(step: Step) -> set[str]:
    return {str(Path(path).parent) for path in (step.path, step.other) if path}


def _image(names: Names, fate: str, chance: random.Random) -> Image:
    reached = {"."}
    image: list[tuple[str, bytes | None]] = []
    for path in sorted(names):
        if str(Path(path).parent) in reached:  # else its folder was lost, and it with it
            file = names[path]
            if file is None:
                reached.add(path)
            image.append((path, None if file is None else file.content(fate, chance)))
    return tuple(image)


def place(image: Image, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in image:
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def look(folder: Path) -> Image:
    """What is really there."""
    return tuple(
        (str(path.relative_to(folder)), None if path.is_dir() else path.read_bytes())
        for path in sorted(folder.rglob("*"), key=lambda path: str(path.relative_to(folder)))
    )


FULL, READ_ONLY, BROKEN = errno.ENOSPC, errno.EROFS, errno.EIO
