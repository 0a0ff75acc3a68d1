"""The files inside a model of either form: a zip behind a .tflite, metadata entries of an .onnx."""

from __future__ import annotations

from collections.abc import Mapping

from converters.jetson.onnx_members import bare_onnx_file, with_onnx_members
from converters.tflite import archive
from edge_agent.records import ModelFile


def bare_model(file: ModelFile) -> bytes:
    """Its bytes without any member."""
    return bare_onnx_file(file.content) if file.form == "onnx" else archive.bare_model(file.content)


def replaced(file: ModelFile, members: Mapping[str, bytes]) -> bytes:
    """The model with ``members`` in place of those that it has."""
    write = with_onnx_members if file.form == "onnx" else archive.with_members
    return write(bare_model(file), members)
