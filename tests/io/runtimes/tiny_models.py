"""Models of a few operators, written straight into the flatbuffer, for shapes that no public model has."""

import pytest

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert writes the test models")

FLOAT, INT, BOOL, LONG = (
    schema.TensorType.FLOAT32,
    schema.TensorType.INT32,
    schema.TensorType.BOOL,
    schema.TensorType.INT64,
)
Op = schema.BuiltinOperator


def tensor(name, shape, kind=FLOAT, signature=None):
    made = schema.TensorT()
    made.name, made.shape, made.type, made.shapeSignature = name, shape, kind, signature
    made.buffer, made.hasRank = 0, True
    return made


def signature(key, inputs, outputs):
    """Names to tensor indices."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key, 0
    made.inputs, made.outputs = _tensor_map(inputs), _tensor_map(outputs)
    return made


def build(tensors, operators, inputs, outputs, signatures=()):
    """``operators``: (builtin code, input indices, output indices)."""
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.name = tensors, inputs, outputs, "main"
    graph.operators = []
    model = schema.ModelT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    model.operatorCodes, model.signatureDefs = [], list(signatures)
    for position, (code, takes, gives) in enumerate(operators):
        kind = schema.OperatorCodeT()
        kind.builtinCode, kind.deprecatedBuiltinCode, kind.version = code, min(code, 127), 1
        model.operatorCodes.append(kind)
        node = schema.OperatorT()
        node.opcodeIndex, node.inputs, node.outputs = position, takes, gives
        graph.operators.append(node)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def reshape():
    """y = x reshaped to what the second input says: its shape is known only after a run."""
    tensors = [tensor("x", [1, 4]), tensor("shape", [2], INT), tensor("y", [])]
    return build(tensors, [(Op.RESHAPE, [0, 1], [2])], [0, 1], [2])


def where():
    """y = indices of the true elements: as many rows as there are, and none for none."""
    tensors = [tensor("x", [4], BOOL), tensor("y", [], LONG, [-1, 1])]
    return build(tensors, [(Op.WHERE, [0], [1])], [0], [1])


def difference(*signatures, names=("a", "b", "c")):
    """c = a - b."""
    tensors = [tensor(name, [1, 2]) for name in names]
    return build(tensors, [(Op.SUB, [0, 1], [2])], [0, 1], [2], signatures)


def logarithm():
    """y = log(x): not finite on zeros, finite on ones."""
    return build([tensor("x", [1, 2]), tensor("y", [1, 2])], [(Op.LOG, [0], [1])], [0], [1])


def never_finite():
    """z = log(-x): not finite on zeros nor on ones."""
    tensors = [tensor(name, [1, 2]) for name in "xyz"]
    return build(tensors, [(Op.NEG, [0], [1]), (Op.LOG, [1], [2])], [0], [2])


def _tensor_map(indices):
    entries = []
    for name, index in indices.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries
