"""Starts a worker inside its own environment: ``python run.py WORKER JOB_FOLDER PARENT``, with the parent's process id.

The environment knows nothing of this project, and must not see the packages beside it (another numpy): only the
folder ``converters`` is made importable, and its __init__, which needs more than the environment has, is not executed.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import traceback
import types
from pathlib import Path

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Nobody waits for the result of a parent that was killed: the kernel ends this process with it (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[3]):  # it died before it could be watched
            sys.exit(1)


def main() -> None:
    here = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    package = types.ModuleType("converters")
    package.__path__ = [str(here.parent)]
    sys.modules["converters"] = package
    try:
        importlib.import_module(f"converters.workers.{sys.argv[1]}").main()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("converters"):
            raise
        traceback.print_exc()
        said = (
            f"{sys.executable} has no module {error.name!r}: install it there, or name another Python by EDGE_CONVERT_"
        )
        protocol = importlib.import_module("converters.workers.protocol")
        protocol.write_answer(Path(sys.argv[2]), {"ok": False, "error": f"{said}KERAS, _TORCH or _ONNX"})


end_with_parent()
main()
