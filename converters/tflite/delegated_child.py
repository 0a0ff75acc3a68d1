"""The child of placement_xnnpack.py: ``python -m converters.tflite.delegated_child < MODEL``, one JSON line out.

Says which ops the interpreter's default delegate took. It may crash on a damaged model: its parent copes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_agent.io.runtimes.litert import load_library, one_line


def taken(interpreter: Any) -> list[int]:
    """Ops between the DELEGATE nodes' inputs and outputs: the nodes themselves do not say what they replaced."""
    nodes = interpreter._interpreter
    names = [nodes.NodeName(number) for number in range(nodes.NumNodes())]
    ops = [number for number, name in enumerate(names) if name != "DELEGATE"]
    makers = {int(tensor): number for number in ops for tensor in nodes.NodeOutputs(number)}
    found: set[int] = set()
    for number, name in enumerate(names):
        if name != "DELEGATE":
            continue
        borders = {int(tensor) for tensor in nodes.NodeInputs(number)}
        waiting = [int(tensor) for tensor in nodes.NodeOutputs(number)]
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is not None and maker not in found:
                found.add(maker)
                waiting += [int(t) for t in nodes.NodeInputs(maker) if int(t) not in borders]
    return sorted(found)


def main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)  # what the library prints must not mix with the answer
    library = load_library()
    try:
        interpreter = library.module.Interpreter(model_content=sys.stdin.buffer.read())
        interpreter.allocate_tensors()
        result: dict[str, Any] = {"runtime": library.version, "taken": taken(interpreter)}
    except (ValueError, RuntimeError, EdgeAgentError) as error:
        result = {"error": one_line(error)}
    os.write(answer, json.dumps(result).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
