"""The member edge-agent/golden.npz of a model: arrays "input/TENSOR" and "output/TENSOR", a row for each sample."""

from __future__ import annotations

import io
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.io.model_file import MEMBER_BYTES_MOST, ZIP_DAMAGE
from edge_agent.records import Array

GOLDEN_MEMBER = "edge-agent/golden.npz"
# numpy reads the head of an array as Python text
_DAMAGE = (*ZIP_DAMAGE, tokenize.TokenError, SyntaxError, TypeError, NotImplementedError)


class GoldenSamples(NamedTuple):
    """By tensor, a row for each sample: ready tensors, and what the model made of them."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def read_golden(members: Mapping[str, bytes], path: Path) -> GoldenSamples:
    """The golden samples among a model's members; ``path`` names it in messages. Raises ModelError."""
    content = members.get(GOLDEN_MEMBER)
    if content is None:
        raise ModelError(f"{path}: has no golden samples; add them with `edge-convert golden`")
    try:
        arrays = _arrays(content)
    except _DAMAGE as error:
        raise ModelError(f"{path}: {GOLDEN_MEMBER} can't be read: {error}") from None
    inputs = {name[6:]: rows for name, rows in arrays.items() if name.startswith("input/")}
    outputs = {name[7:]: rows for name, rows in arrays.items() if name.startswith("output/")}
    counts = {len(rows) if rows.ndim else 0 for rows in arrays.values()}
    if not inputs or not outputs or len(counts) != 1 or counts == {0}:
        raise ModelError(f"{path}: {GOLDEN_MEMBER} has no samples with inputs and outputs of the same number")
    return GoldenSamples(inputs, outputs)


def _arrays(content: bytes) -> dict[str, Array]:
    # as bytes, so that whatever is no zip fails here and not as another kind of numpy file
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (total := sum(entry.file_size for entry in archive.infolist())) > MEMBER_BYTES_MOST:
            raise ValueError(f"{total} bytes unpacked, at most {MEMBER_BYTES_MOST} are read")
        return {
            name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }
