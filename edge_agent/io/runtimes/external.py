"""External delegates: a shared library with ``tflite_plugin_create_delegate``, named by path or by soname.

Every way in which one fails to load becomes one DeviceError. A library that does not fit the runtime may also
kill the process, which only a child can survive: see probe.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edge_agent.errors import DeviceError, ModelError
from edge_agent.io.runtimes.litert import LibraryName, LiteRtRuntime, load_library, one_line

_ENTRIES = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


class Plugin(NamedTuple):
    """Which library, with which options, and what to tell a person for whom it does not work."""

    library: str
    options: Mapping[str, str] = {}
    no_device: str = ""  # begins each message about the library
    if_missing: str = "check the path under [delegate]"
    if_null: str = "see what the delegate's maker says of its options and device"

    def absolute(self) -> Plugin:
        """A path that means the same in another folder; a soname stays one, for the loader to look up."""
        return self._replace(library=str(Path(self.library).absolute())) if "/" in self.library else self


EDGETPU = Plugin(
    "libedgetpu.so.1",
    no_device="no Edge TPU: ",
    if_missing="install libedgetpu1-std built for TF 2.17 or later (the stock build for TF 2.5 kills this runtime)",
    if_null="attach an Edge TPU, and let this user open it (group plugdev for USB, apex for PCIe)",
)


def load(plugin: Plugin, library: LibraryName | None = None) -> object:
    """The delegate as the interpreter takes it. Raises DeviceError naming the library and the reason."""
    check(plugin)
    try:
        return load_library(library).module.load_delegate(plugin.library, dict(plugin.options))
    except (OSError, AttributeError, ValueError, RuntimeError) as error:
        said = one_line(str(error).replace(f"Failed to load delegate from {plugin.library}", ""))
        raise DeviceError(
            f"{plugin.no_device}{plugin.library} made no delegate: {said or 'it gave no reason'}; {plugin.if_null}"
        ) from error


def check(plugin: Plugin) -> str:
    """The file that the loader takes for this library. Raises DeviceError where it is not a delegate.

    Looked at before load_delegate, which leaves a half-made object that complains on standard error.
    """
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
    return _file_of(loaded)


def open_runtime(
    plugin: Plugin, model: bytes, *, label: str, threads: int, library: LibraryName | None = None
) -> LiteRtRuntime:
    """An interpreter whose graph was offered to the delegate first. Raises DeviceError when either refuses."""
    delegate = load(plugin, library)
    try:
        return LiteRtRuntime(model, label=label, threads=threads, library=library, plugin=delegate)
    except ModelError as error:
        raise DeviceError(f"{plugin.no_device}{plugin.library} does not run this model: {error}") from error


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
