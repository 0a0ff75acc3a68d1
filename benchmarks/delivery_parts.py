"""One part of benchmarks/delivery.py in a process of its own: ``python -m benchmarks.delivery_parts KIND ARGUMENTS``.

``ARGUMENTS``: a JSON object. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.delivery_others import commit_each, paho_bare, paho_queue
from benchmarks.delivery_ours import drain, open_store, store
from benchmarks.disk_writes import disk_writes
from benchmarks.messages import bodies


def body_bytes() -> dict[str, Any]:
    return {"bytes": len(next(bodies(1)))}


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    part.__name__: part
    for part in (store, open_store, drain, disk_writes, body_bytes, paho_queue, commit_each, paho_bare)
}


def main() -> None:
    print(json.dumps(PARTS[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
