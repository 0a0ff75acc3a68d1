"""ONNX models run by ONNX Runtime on the CPU, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.workers.layout import as_source
from converters.workers.protocol import Array, Job, RefusedError

_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


class Session:
    """``model`` is a ModelProto with batch 1. One thread: the same sums on every machine, and a small model row by row
    is much slower with more."""

    def __init__(self, model: Any) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except _failures(onnxruntime) as error:
            raise RefusedError(f"ONNX Runtime can't load the model: {str(error).splitlines()[0]}") from None
        self._dtypes = {entry.name: _DTYPES.get(entry.type, np.float32) for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self._dtypes)

    def __call__(self, row: Mapping[str, Array]) -> dict[str, Array]:
        feed = {name: np.asarray(row[name], dtype) for name, dtype in self._dtypes.items()}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))


def _failures(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """Its errors have no base class of their own."""
    module = onnxruntime.capi.onnxruntime_pybind11_state
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, *own)


def predict_rows(job: Job, session: Session, turned: tuple[str, ...], text: str) -> dict[str, Any]:
    """The set "inputs" (rows by input name; those in ``turned`` have their channels last, the model wants them first)
    through the model to the set "outputs". Raises RefusedError for other names."""
    given = job.arrays("inputs")
    if set(given) != set(session.inputs):
        raise RefusedError(
            f"the model's inputs are {', '.join(session.inputs)}; given were {', '.join(given) or 'none'}"
        )
    count = len(next(iter(given.values())))
    found: list[dict[str, Array]] = []
    for row in range(count):
        found.append(session(as_source({name: rows[row : row + 1] for name, rows in given.items()}, turned)))
        job.progress(row + 1, count, text)
    job.save_arrays("outputs", {name: np.concatenate([part[name] for part in found]) for name in found[0]})
    return {"rows": count}
