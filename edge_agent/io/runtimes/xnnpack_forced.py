"""XNNPACK for tflite-runtime, whose default leaves quantised graphs to kernels that are 12 to 14 times slower.

The library exports the delegate's C interface; this calls it. LiteRT does the same by itself.
"""

from __future__ import annotations

import ctypes
from typing import Any

# TFLITE_XNNPACK_DELEGATE_FLAG_QS8 and _QU8 of tensorflow/lite/delegates/xnnpack/xnnpack_delegate.h
_QS8_AND_QU8 = 1 | 2


class _Options(ctypes.Structure):
    """Head of TfLiteXNNPackDelegateOptions. It grew with the versions: the library fills in and reads its own
    part of the tail, which must be longer than any version's."""

    _fields_ = (
        ("num_threads", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("tail", ctypes.c_byte * 248),
    )


class ForcedXnnpack:
    """A delegate in the form that the interpreter takes; it keeps it alive and destroys it last."""

    def __init__(self, exports: ctypes.CDLL, threads: int) -> None:
        exports.TfLiteXNNPackDelegateOptionsDefault.restype = _Options
        exports.TfLiteXNNPackDelegateCreate.restype = ctypes.c_void_p
        exports.TfLiteXNNPackDelegateCreate.argtypes = [ctypes.POINTER(_Options)]
        exports.TfLiteXNNPackDelegateDelete.argtypes = [ctypes.c_void_p]
        exports.TfLiteXNNPackDelegateDelete.restype = None
        options = exports.TfLiteXNNPackDelegateOptionsDefault()
        options.num_threads = threads
        options.flags |= _QS8_AND_QU8
        self._delete = exports.TfLiteXNNPackDelegateDelete
        self._pointer = exports.TfLiteXNNPackDelegateCreate(ctypes.byref(options))

    def _get_native_delegate_pointer(self) -> int:
        """Called by the interpreter."""
        return int(self._pointer)

    def __del__(self) -> None:
        self._delete(self._pointer)


def delegates(interpreter_module: Any, threads: int) -> list[object]:
    """The delegate as the interpreter's argument; empty where this build of the library does not export it."""
    exports = ctypes.CDLL(interpreter_module._interpreter_wrapper.__file__)
    if not hasattr(exports, "TfLiteXNNPackDelegateOptionsDefault"):
        return []
    delegate = ForcedXnnpack(exports, threads)
    return [delegate] if delegate._pointer else []
