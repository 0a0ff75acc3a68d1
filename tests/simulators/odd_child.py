"""A child that misbehaves as it is asked to: ``process.spawn("tests.simulators.odd_child", KIND)``."""

from __future__ import annotations

import os
import signal
import sys
import time

from edge_agent.children import inside

FLOOD_BYTES = 2**22


def main() -> None:
    kind = inside.request()
    if kind == "floods":
        for stream in (sys.stdout, sys.stderr):
            stream.write("x" * FLOOD_BYTES)
            stream.flush()
        sys.stderr.write("\nlast words\n")
        sys.exit(3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "closes its streams and stays":
        os.close(1)
        os.close(2)
    time.sleep(600)


if __name__ == "__main__":
    main()
