"""External delegates: a shared library with ``tflite_plugin_create_delegate``, named by path or by soname.

Every way in which one fails to load becomes one DeviceError. A library that does not fit the runtime may also
kill the process, which only a child can survive: see probe.py.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from edge_agent.errors import DeviceError, ModelError, NoDeviceError
from edge_agent.io.edge_tpus import edge_tpus
from edge_agent.io.runtimes.litert import LibraryName, LiteRtRuntime, one_line

_ENTRIES = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


Kind = Literal["edgetpu", ""]


class _Words(NamedTuple):
    """What to tell a person for whom a library does not work; ``no_device`` begins each message."""

    no_device: str
    if_missing: str
    if_null: str


_WORDS: Final[dict[Kind, _Words]] = {
    "": _Words(
        "", "check the path under [delegate]", "see what the delegate's maker says of its options and its device"
    ),
    "edgetpu": _Words(
        "no Edge TPU: ",
        "install libedgetpu1-std built for TF 2.17 or later (the stock build for TF 2.5 kills this runtime)",
        "attach an Edge TPU, and let this user open it (group plugdev for USB, apex for PCIe)",
    ),
}


class Plugin(NamedTuple):
    """Which library, with which options. ``kind`` "edgetpu": it drives an Edge TPU, whatever its name."""

    library: str
    options: Mapping[str, str] = {}
    kind: Kind = ""

    @property
    def exclusive(self) -> bool:
        """Whether one process at a time has the device: a child can't try it while this process does."""
        return self.kind == "edgetpu"

    @property
    def no_device(self) -> str:
        return _WORDS[self.kind].no_device

    @property
    def if_missing(self) -> str:
        return _WORDS[self.kind].if_missing

    @property
    def if_null(self) -> str:
        if self.kind != "edgetpu":
            return _WORDS[self.kind].if_null
        wanted = self.options.get("device", "")
        return f"{_WORDS[self.kind].if_null}; {_seen()}" + (f'; "{wanted}" was asked for' if wanted else "")

    def absolute(self) -> Plugin:
        """A path that means the same in another folder; a soname stays one, for the loader to look up."""
        return self._replace(library=str(Path(self.library).absolute())) if "/" in self.library else self


EDGETPU = Plugin("libedgetpu.so.1", kind="edgetpu")


def _seen() -> str:
    found = edge_tpus()
    return "the system sees " + (", ".join(f"{tpu.bus} {tpu.where}" for tpu in found) if found else "none")


class _Held:
    """The devices that this process has open. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[object, ...]] = Counter()

    def __contains__(self, plugin: Plugin | None) -> bool:
        with self._lock:
            return plugin is not None and self._counts[self._key(plugin)] > 0

    def add(self, plugin: Plugin, count: int) -> None:
        with self._lock:
            self._counts[self._key(plugin)] += count

    @staticmethod
    def _key(plugin: Plugin) -> tuple[object, ...]:
        return plugin.library, tuple(sorted(plugin.options.items()))


HELD: Final = _Held()


class ExternalRuntime(LiteRtRuntime):
    """An interpreter whose graph was offered to the delegate first."""

    def __init__(self, plugin: Plugin, model: bytes, *, label: str, threads: int, library: LibraryName | None) -> None:
        """Raises DeviceError when either refuses."""
        delegate = Delegate(plugin)
        try:
            super().__init__(model, label=label, threads=threads, library=library, plugin=delegate)
        except ModelError as error:
            raise DeviceError(f"{plugin.no_device}{plugin.library} does not run this model: {error}") from error
        self._held: Plugin | None = plugin
        HELD.add(plugin, 1)

    def close(self) -> None:
        super().close()
        held, self._held = self._held, None
        if held is not None:
            HELD.add(held, -1)


class Delegate:
    """A delegate in the form that the interpreter takes; it keeps it alive and destroys it last.

    The interpreter's own ``load_delegate`` does the same, and holds Python's lock meanwhile: an Edge TPU takes seconds
    to be opened for the first time, and every thread of the process would stand still."""

    def __init__(self, plugin: Plugin) -> None:
        """Raises DeviceError naming the library and the reason, NoDeviceError where it makes no delegate."""
        loaded = _open(plugin)
        said: list[str] = []
        report = _REPORT(lambda text: said.append(text.decode(errors="replace")))
        loaded.tflite_plugin_create_delegate.argtypes = [_TEXTS, _TEXTS, ctypes.c_size_t, _REPORT]
        loaded.tflite_plugin_create_delegate.restype = ctypes.c_void_p
        loaded.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]
        loaded.tflite_plugin_destroy_delegate.restype = None
        self._destroy = loaded.tflite_plugin_destroy_delegate
        keys, values = _texts(plugin.options.keys()), _texts(plugin.options.values())
        self._pointer = loaded.tflite_plugin_create_delegate(keys, values, len(plugin.options), report)
        if not self._pointer:
            why = one_line(" ".join(said)) or "it gave no reason"
            raise NoDeviceError(f"{plugin.no_device}{plugin.library} made no delegate: {why}; {plugin.if_null}")

    def _get_native_delegate_pointer(self) -> int:
        """Called by the interpreter."""
        return int(self._pointer)

    def __del__(self) -> None:
        if pointer := getattr(self, "_pointer", None):
            self._destroy(pointer)


_TEXTS: Final = ctypes.POINTER(ctypes.c_char_p)
_REPORT: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _texts(words: Collection[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(words))(*(word.encode() for word in words))


def check(plugin: Plugin) -> str:
    """The file that the loader takes for this library. Raises DeviceError where it is not a delegate."""
    return _file_of(_open(plugin))


def _open(plugin: Plugin) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(plugin.library)
    except OSError as error:
        if f"{plugin.library}: cannot open shared object file: No such file" in str(error):
            raise DeviceError(f"{plugin.no_device}{plugin.library} is not installed; {plugin.if_missing}") from error
        raise DeviceError(
            f"{plugin.no_device}{plugin.library} can't be loaded: {one_line(error)}; {plugin.if_missing}"
        ) from error
    absent = [name for name in _ENTRIES if not hasattr(loaded, name)]
    if absent:
        raise DeviceError(
            f"{plugin.no_device}{plugin.library} is no TFLite delegate: it has no {absent[0]}; {plugin.if_missing}"
        )
    return loaded


class _SymbolInfo(ctypes.Structure):
    """Dl_info of dlfcn.h."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _file_of(loaded: ctypes.CDLL) -> str:
    """Where the loader found it: the soname alone can't tell whether the file was replaced."""
    info = _SymbolInfo()
    entry = ctypes.cast(loaded[_ENTRIES[0]], ctypes.c_void_p)
    found = ctypes.CDLL(None).dladdr(entry, ctypes.byref(info))
    return info.file.decode(errors="surrogateescape") if found and info.file else ""
