"""Every write, cut, sync, rename and removal that a program makes below a folder, in their order, and the disk as a
power cut could leave it after any of them.

A shim between the program and the C library notes them; a model of the disk plays them again. What a file held at its
last completed sync is safe; of the later writes to it any may be missing, whole or in blocks. Names (made, renamed,
removed) are in the order in which they were made, as a journalling file system keeps them.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512  # bytes that a disk writes whole

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int under(const char *path) {
    const char *folder = getenv("WRITE_LOG_FOLDER");
    return folder && !strncmp(path, folder, strlen(folder));
}
static int name_of(int fd, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, size - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return under(name);
}
/* one write to a file opened for appending: records of several threads do not mix */
static void note(char what, const char *path, const char *other, int64_t offset, const void *data, int64_t size) {
    static int log_fd = -1;
    if (log_fd < 0) log_fd = open(getenv("WRITE_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int32_t lengths[2] = {strlen(path), strlen(other)};
    size_t head = 1 + 8 + 16 + lengths[0] + lengths[1], kept = data ? size : 0;
    char *record = malloc(head + kept), *end = record;
    *end++ = what;
    memcpy(end, lengths, 8); end += 8;
    memcpy(end, &offset, 8); end += 8;
    memcpy(end, &size, 8); end += 8;
    memcpy(end, path, lengths[0]); end += lengths[0];
    memcpy(end, other, lengths[1]); end += lengths[1];
    if (kept) memcpy(end, data, kept);
    if (syscall(SYS_write, log_fd, record, head + kept) != (ssize_t)(head + kept)) abort();
    free(record);
}
#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
static ssize_t written(int fd, const void *data, ssize_t done, off_t offset) {
    char name[4096];
    if (done > 0 && name_of(fd, name, sizeof name)) note('w', name, "", offset, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return written(fd, data, real(fd, data, size, offset), offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return written(fd, data, real(fd, data, size, offset), offset);
}
ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    return written(fd, data, real(fd, data, size), offset);
}
static int cut(int fd, off_t size, int done) {
    char name[4096];
    if (!done && name_of(fd, name, sizeof name)) note('t', name, "", 0, NULL, size);
    return done;
}
int ftruncate(int fd, off_t size) { REAL(int, "ftruncate", int, off_t); return cut(fd, size, real(fd, size)); }
int ftruncate64(int fd, off_t size) { REAL(int, "ftruncate64", int, off_t); return cut(fd, size, real(fd, size)); }
static int synced(int fd, int done) {
    char name[4096];
    if (!done && name_of(fd, name, sizeof name)) note('s', name, "", 0, NULL, 0);
    return done;
}
int fsync(int fd) { REAL(int, "fsync", int); return synced(fd, real(fd)); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); return synced(fd, real(fd)); }
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    int done = real(path);
    if (!done && under(path)) note('u', path, "", 0, NULL, 0);
    return done;
}
int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    int done = real(old, new);
    if (!done && under(old)) note('r', old, new, 0, NULL, 0);
    return done;
}
"""


@dataclass(frozen=True)
class Step:
    """``what``: write, truncate, sync, unlink, rename (to ``other``); ``size`` in bytes of a truncate."""

    what: str
    path: str
    other: str = ""
    offset: int = 0
    size: int = 0
    data: bytes = b""


def build(folder: Path) -> Path | None:
    """The shim; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, shim = folder / "write_log.c", folder / "write_log.so"
    source.write_text(_SHIM)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


def record(shim: Path, script: str, folder: Path, log: Path, root: Path) -> list[Step]:
    """Run a Python script with ``folder`` as its argument, and return what it did there."""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "WRITE_LOG": str(log), "WRITE_LOG_FOLDER": str(folder)}
    subprocess.run([sys.executable, "-c", script, folder], check=True, cwd=root, env=environment)
    return list(_parse(log.read_bytes()))


def _parse(content: bytes) -> Iterator[Step]:
    words = {"w": "write", "t": "truncate", "s": "sync", "u": "unlink", "r": "rename"}
    head = struct.Struct("=ciiqq")
    position = 0
    while position < len(content):
        what, length, other, offset, size = head.unpack_from(content, position)
        position += head.size
        path = content[position : position + length].decode()
        new = content[position + length : position + length + other].decode()
        position += length + other
        data = content[position : position + size] if what == b"w" else b""
        position += len(data)
        yield Step(words[what.decode()], path, new, offset, size, data)


class Disk:
    """The files below a folder as a sequence of steps leaves them."""

    def __init__(self) -> None:
        self._safe: dict[str, bytearray] = {}  # as of the last sync of each
        self._loose: dict[str, list[Step]] = {}  # since then

    def play(self, step: Step) -> None:
        if step.what in ("write", "truncate"):
            self._safe.setdefault(step.path, bytearray())
            self._loose.setdefault(step.path, []).append(step)
        elif step.what == "sync":
            for loose in self._loose.pop(step.path, []):
                _apply(self._safe[step.path], loose)
        elif step.what == "unlink":
            self._safe.pop(step.path, None)
            self._loose.pop(step.path, None)
        elif step.path in self._safe:
            self._safe[step.other] = self._safe.pop(step.path)
            self._loose[step.other] = self._loose.pop(step.path, [])

    def whole(self) -> dict[str, bytes]:
        """All that was written has arrived."""
        return self._image(lambda steps: steps)

    def dropped(self, chance: random.Random) -> dict[str, bytes]:
        """Some of what was not synced has not."""
        return self._image(lambda steps: [step for step in steps if chance.random() < 0.5])

    def torn(self, chance: random.Random) -> dict[str, bytes]:
        """Of each write that was not synced some blocks have arrived."""
        return self._image(lambda steps: [piece for step in steps for piece in _blocks(step) if chance.random() < 0.7])

    def reordered(self, chance: random.Random) -> dict[str, bytes]:
        """What was not synced arrived in another order, up to some point."""
        return self._image(lambda steps: chance.sample(steps, chance.randint(0, len(steps))))

    def _image(self, choose: Callable[[list[Step]], Sequence[Step]]) -> dict[str, bytes]:
        image = {}
        for path, safe in self._safe.items():
            content = bytearray(safe)
            for step in choose(self._loose.get(path, [])):
                _apply(content, step)
            image[path] = bytes(content)
        return image


def _apply(content: bytearray, step: Step) -> None:
    if step.what == "truncate":
        del content[step.size :]
        content.extend(bytes(step.size - len(content)))
    else:
        content.extend(bytes(max(0, step.offset - len(content))))
        content[step.offset : step.offset + len(step.data)] = step.data


def _blocks(step: Step) -> Iterator[Step]:
    """The parts of a write in blocks of the disk; a truncate is one part."""
    if step.what != "write":
        yield step
        return
    start = 0
    while start < len(step.data):
        end = start + BLOCK - (step.offset + start) % BLOCK
        yield Step("write", step.path, offset=step.offset + start, data=step.data[start:end])
        start = end
