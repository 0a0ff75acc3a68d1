"""The graph of a .tflite as values: what the interpreter would say too, and damage that never gets further."""

from __future__ import annotations

import random
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.tflite.arithmetic import arithmetic
from converters.tflite.graph import Graph, read_graph
from converters.tflite.graph_costs import macs, op_costs, parameters
from converters.tflite.packing import packed
from edge_agent.errors import ModelError
from edge_agent.io.runtimes import create
from tests.converters.conveyor import MODEL
from tests.converters.handmade_models import HandmadeModel, dynamic_range_hybrid, float_hybrid, one_op

CONTENT = MODEL.read_bytes()
PUBLIC = ("mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq", "traffic_model")


def interpreter_agrees(content: bytes) -> None:
    graph, runtime = read_graph(content), create(content, "cpu", threads=1, external={})
    for names, specs in zip(graph.names(), (runtime.inputs, runtime.outputs), strict=True):
        assert {spec.index: spec.name for spec in specs} == names
        for spec in specs:
            tensor = graph.main.tensors[spec.index]
            assert tensor.dtype == spec.dtype.name
            if tensor.shape:  # a custom op's output has none until a run
                assert tensor.shape == spec.shape
            assert (tensor.scales or (0.0,))[0] == pytest.approx(spec.scale)
            assert (tensor.zero_points or (0,))[0] == spec.zero_point


def test_inputs_and_outputs_are_named_and_quantised_as_the_interpreter_says() -> None:
    for content in (CONTENT, float_hybrid(), dynamic_range_hybrid()):
        interpreter_agrees(content)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_models_are_read_as_the_interpreter_reads_them(shared: Path, name: str) -> None:
    interpreter_agrees((shared / "models" / f"{name}.tflite").read_bytes())


def test_an_op_has_its_options_version_and_fused_activation() -> None:
    first = read_graph(CONTENT).main.ops[0]
    assert (first.name, first.version, first.activation) == ("CONV_2D", 3, "RELU6")
    assert (first.options["StrideW"], first.options["DilationHFactor"]) == (2, 1)


def test_metadata_description_and_minimum_runtime_are_read() -> None:
    graph = read_graph(CONTENT)
    assert "TFLITE_METADATA" in graph.metadata
    assert (graph.description, graph.minimum_runtime) == ("MLIR Converted.", "1.14.0")
    assert read_graph(float_hybrid()).minimum_runtime == ""


def test_constants_have_their_values_and_other_tensors_none() -> None:
    graph = read_graph(float_hybrid())
    by_name = {tensor.name: tensor for tensor in graph.main.tensors}
    assert np.array_equal(graph.values(by_name["axes"]), [1, 2])
    kernel = graph.values(by_name["kernel"])
    assert kernel is not None and kernel.shape == (16, 3, 3, 3) and kernel.dtype == np.float32
    assert graph.values(by_name["serve_image:0"]) is None


def test_a_custom_op_keeps_its_name_and_an_input_that_was_left_out_stays_out() -> None:
    model = HandmadeModel()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    model.op("SomeOfOurs", [x, -1], [y])
    (op,) = read_graph(model.content([x], [y])).main.ops
    assert (op.name, op.custom, op.inputs) == ("SomeOfOurs", True, (x, -1))


def test_a_batch_that_a_run_decides_makes_a_tensor_dynamic() -> None:
    model = HandmadeModel()
    x, y = (model.tensor(name, (1, 4), signature=(-1, 4)) for name in "xy")
    model.op("RELU", [x], [y])
    tensor = read_graph(model.content([x], [y])).main.tensors[x]
    assert (tensor.shape, tensor.shape_signature, tensor.static) == ((1, 4), (-1, 4), False)


def test_without_a_signature_tensors_keep_their_own_names() -> None:
    model = HandmadeModel()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    model.op("RELU", [x], [y])
    assert read_graph(model.content([x], [y])).names() == ({x: "x"}, {y: "y"})


def test_a_shared_constant_belongs_to_its_first_op_alone() -> None:
    model = HandmadeModel()
    x, middle, y = (model.tensor(name, (1, 64)) for name in ("x", "middle", "y"))
    first, second = (model.constant(name, np.ones((64, 64))) for name in ("one", "other"))
    model.share_buffer(second, first)
    for source, weights, made in ((x, first, middle), (middle, second, y)):
        model.op("FULLY_CONNECTED", [source, weights, -1], [made], options="FullyConnectedOptions")
    graph = read_graph(model.content([x], [y]))
    assert [cost.constant_bytes for cost in op_costs(graph.main)] == [64 * 64 * 4, 0]
    assert parameters(graph.main) == 64 * 64


def test_parameters_are_trained_numbers_not_shapes_and_axes() -> None:
    graph = read_graph(float_hybrid())
    trained = 16 * 27 + 16 + 9 * 16 + 16 + 8 * 3 + 8 + 4 * 24 + 4
    assert parameters(graph.main) == trained
    assert sum(cost.constant_bytes for cost in op_costs(graph.main)) == 4 * trained + 2 * 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (one_op("CONV_2D", [(1, 8, 8, 3), np.zeros((16, 3, 3, 3), np.int8)], [(1, 4, 4, 16)]), 4 * 4 * 16 * 27),
        (one_op("DEPTHWISE_CONV_2D", [(1, 8, 8, 6), np.zeros((1, 5, 3, 6), np.int8)], [(1, 8, 8, 6)]), 8 * 8 * 6 * 15),
        (one_op("FULLY_CONNECTED", [(2, 10), np.zeros((7, 10), np.int8)], [(2, 7)]), 2 * 7 * 10),
        (
            one_op(
                "TRANSPOSE_CONV",
                [np.array([1, 8, 8, 5], np.int32), np.zeros((5, 2, 2, 3), np.int8), (1, 4, 4, 3)],
                [(1, 8, 8, 5)],
            ),
            4 * 4 * 3 * 5 * 2 * 2,
        ),
        (one_op("BATCH_MATMUL", [(1, 3, 4), (1, 4, 6)], [(1, 3, 6)], options="BatchMatMulOptions"), 3 * 6 * 4),
        (one_op("ADD", [(1, 8), (1, 8)], [(1, 8)]), 0),
    ],
)
def test_multiply_accumulates_by_hand(content: bytes, expected: int) -> None:
    subgraph = read_graph(content).main
    assert macs(subgraph, subgraph.ops[0]) == expected


@pytest.mark.parametrize(("name", "published"), [(PUBLIC[0], 14e6), (PUBLIC[1], 300e6)])
def test_multiply_accumulates_of_public_models_are_the_published_ones(
    shared: Path, name: str, published: float
) -> None:
    graph = read_graph((shared / "models" / f"{name}.tflite").read_bytes())
    assert sum(cost.macs for cost in op_costs(graph.main)) == pytest.approx(published, rel=0.05)


def test_the_kind_of_quantisation_has_one_word() -> None:
    assert arithmetic(read_graph(CONTENT)).text == "full int8"
    assert arithmetic(read_graph(float_hybrid())).text == "float32"
    assert arithmetic(read_graph(dynamic_range_hybrid())).kind == "dynamic"
    sixteen = one_op("ADD", [(1, 8), (1, 8)], [(1, 8)], "int16")
    assert arithmetic(read_graph(sixteen)).kind == "16x8"


def test_half_precision_and_unpacked_weights_are_told_from_dynamic_range() -> None:
    for dtype, kind in (("float16", "float16"), ("int8", "weight-only")):
        model = HandmadeModel()
        x, y, unpacked = model.tensor("x", (1, 4)), model.tensor("y", (1, 4)), model.tensor("unpacked", (4, 4))
        stored = model.constant("stored", np.ones((4, 4)), dtype)
        model.op("DEQUANTIZE", [stored], [unpacked])
        model.op("FULLY_CONNECTED", [x, unpacked, -1], [y], options="FullyConnectedOptions")
        assert arithmetic(read_graph(model.content([x], [y]))).kind == kind


def test_float_ops_among_quantised_ones_are_named_and_conversions_at_the_border_are_not() -> None:
    model = HandmadeModel()
    x, quantised, added = (
        model.tensor("x", (1, 4)),
        model.tensor("q", (1, 4), "int8"),
        model.tensor("a", (1, 4), "int8"),
    )
    back, y = model.tensor("b", (1, 4)), model.tensor("y", (1, 4))
    model.op("QUANTIZE", [x], [quantised])
    model.op("ADD", [quantised, quantised], [added], options="AddOptions")
    model.op("DEQUANTIZE", [added], [back])
    bordered = arithmetic(read_graph(model.content([x], [back])))
    assert bordered.text == "full int8, float32 inputs and outputs"
    model.op("EXP", [back], [y])
    mixed = arithmetic(read_graph(model.content([x], [y])))
    assert (mixed.kind, mixed.text) == ("mixed", "mixed: 1 float op: EXP")
    assert [(op.op, op.name, op.tensor) for op in mixed.float_ops] == [(3, "EXP", "y")]


# --- damage


def readable(content: bytes) -> Graph | None:
    try:
        return read_graph(content)
    except ModelError as error:
        assert "\n" not in str(error)
        return None


def test_what_is_no_model_is_refused() -> None:
    for content in (b"", b"TFL3", b"\0" * 64, CONTENT[:8]):
        with pytest.raises(ModelError):
            read_graph(content)


def test_a_model_cut_anywhere_is_refused_or_read_and_never_crashes() -> None:
    bare = float_hybrid()
    results = [readable(bare[:length]) for length in range(8, len(bare), 13)]
    assert any(result is None for result in results)


def test_flipped_bytes_are_refused_or_read_and_never_crash() -> None:
    bare, chance = float_hybrid(), random.Random(7)
    refused = 0
    for _ in range(800):
        damaged = bytearray(bare)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
        refused += readable(bytes(damaged)) is None
    assert refused > 50


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_behind_the_identifier_are_refused_or_read(rest: bytes) -> None:
    readable(b"\x14\0\0\0TFL3" + rest)


def test_an_op_that_takes_a_tensor_which_is_not_there_is_refused() -> None:
    model = HandmadeModel()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    model.op("RELU", [99], [y])
    with pytest.raises(ModelError, match="tensor 99 of 2"):
        read_graph(model.content([x], [y]))


def test_an_op_without_its_inputs_or_output_is_refused() -> None:
    for inputs, outputs in (([0], [1]), ([0, -1], [1]), ([0, 0], [])):
        model = HandmadeModel()
        model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
        model.op("FULLY_CONNECTED", inputs, outputs)
        with pytest.raises(ModelError, match="op 0, FULLY_CONNECTED"):
            read_graph(model.content([0], [1]))


def test_a_small_file_can_not_fill_the_memory_by_pointing_at_the_same_things_again_and_again() -> None:
    with pytest.raises(ModelError, match="more than the file has bytes"):
        read_graph(repeated_tensors(150_000))


def test_a_list_longer_than_any_real_model_has_is_refused() -> None:
    with pytest.raises(ModelError, match="a list of"):
        read_graph(repeated_tensors(300_000))


def repeated_tensors(count: int) -> bytes:
    """One tensor with a long name and a long list of scales, listed ``count`` times."""
    builder = flatbuffers.Builder(4 * count + 65536)
    name = builder.CreateString("x" * 4000)
    scales = builder.CreateNumpyVector(np.ones(4000, np.float32))
    schema.QuantizationParametersStart(builder)
    schema.QuantizationParametersAddScale(builder, scales)
    quantization = schema.QuantizationParametersEnd(builder)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    schema.TensorAddQuantization(builder, quantization)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_constants_that_lie_behind_the_flatbuffer_are_found() -> None:
    model = schema.ModelT.InitFromPackedBuf(float_hybrid(), 0)
    kernel = next(tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"kernel")
    data = np.asarray(model.buffers[kernel.buffer].data, np.uint8).tobytes()
    model.buffers[kernel.buffer].data = None
    model.buffers[kernel.buffer].offset, model.buffers[kernel.buffer].size = 1, len(data)
    # the offset has to be known before it is written: the length does not depend on its value
    builder = flatbuffers.Builder(65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    model.buffers[kernel.buffer].offset = len(builder.Output())
    builder = flatbuffers.Builder(65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    graph = read_graph(bytes(builder.Output()) + data)
    values = graph.values(next(tensor for tensor in graph.main.tensors if tensor.name == "kernel"))
    assert values is not None and values.tobytes() == data


def test_a_packed_model_reads_the_same_again() -> None:
    again = packed(schema.ModelT.InitFromPackedBuf(CONTENT, 0))
    before, after = read_graph(CONTENT), read_graph(again)
    assert before.main.ops == after.main.ops
    assert before.signatures == after.signatures
