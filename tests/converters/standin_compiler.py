"""A stand-in for Google's edgetpu_compiler, for the plumbing around it: the same command line, files and words.

It compiles nothing: the ops it "maps" become one custom op with nothing in it. Like the real one it writes the graph
anew, and signature and metadata are lost. STANDIN_LEAVES=N: that many ops at the end stay on the CPU;
STANDIN_MAPS=none: nothing is mapped; STANDIN_FAILS: words to die with.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.packing import packed

HEAD = "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("-s", "--show_operations", action="store_true")
    arguments.add_argument("-o", "--out_dir", type=Path, default=Path())
    arguments.add_argument("model", type=Path)
    options = arguments.parse_args()
    print(HEAD)
    if said := os.environ.get("STANDIN_FAILS"):
        print(said)
        sys.exit(1)
    content = options.model.read_bytes()
    if zipfile.is_zipfile(options.model):
        sys.exit("the model is not bare")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    total = len(model.subgraphs[0].operators)
    leaves = total if os.environ.get("STANDIN_MAPS") == "none" else int(os.environ.get("STANDIN_LEAVES", "0"))
    result = options.out_dir / f"{options.model.stem}_edgetpu.tflite"
    result.write_bytes(_compiled(model, leaves) if leaves < total else content)
    print(f"Model compiled successfully in 12 ms.\n\nInput model: {options.model}\nOutput model: {result}")
    print(f"Number of Edge TPU subgraphs: {int(leaves < total)}\nTotal number of operations: {total}")
    if leaves:
        print("Model successfully compiled but not all operations are supported by the Edge TPU.")
        print(f"Number of operations that will run on Edge TPU: {total - leaves}")
        print(f"Number of operations that will run on CPU: {leaves}")
    if options.show_operations:
        print("\nOperator                       Count      Status\n")
        if total - leaves:
            print(f"{'CONV_2D':<30} {total - leaves:<10} Mapped to Edge TPU")
        if leaves:
            print(f"{'SOFTMAX':<30} {leaves:<10} More than one subgraph is not supported")
    print("Compilation child process completed within timeout period.\nCompilation succeeded! ")


def _compiled(model: schema.ModelT, leaves: int) -> bytes:
    graph = model.subgraphs[0]
    kept = list(graph.operators[len(graph.operators) - leaves :]) if leaves else []
    code, op = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, "edgetpu-custom-op"
    code.deprecatedBuiltinCode, code.version = schema.BuiltinOperator.CUSTOM, 1
    model.operatorCodes.append(code)
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs = list(graph.inputs)
    op.outputs = [kept[0].inputs[0]] if kept else list(graph.outputs)
    op.customOptions = np.arange(100, dtype=np.uint8)
    graph.operators = [op, *kept]
    model.description, model.signatureDefs, model.metadata = "Exported from Subgraph.", None, None
    return packed(model)


if __name__ == "__main__":
    main()
