"""Distillation: a student learns from a teacher's answers and the truth, and its twin from the truth alone. The same
architecture, seed, rows and steps: only then the two can be compared (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from converters.workers.protocol import Job, RefusedError
from converters.workers.tf_export import load_keras
from converters.workers.training_data import Rows, check_labels
from converters.workers.training_keras import Lesson, Named, fit, keras_of, load, require_same_ends, write
from converters.workers.training_loop import course_of, make_deterministic

_LONGEST = 500  # characters of an error in the user's code


def distill(job: Job) -> dict[str, Any]:
    """The operation "distill": writes taught.keras and taught.tflite, and alone.keras and alone.tflite."""
    arguments = job.arguments
    make_deterministic(arguments["seed"])
    rows = Rows(job)
    check_labels(arguments["heads"], rows.labels)  # the twin has nothing else
    _, teacher = load(job)
    lesson = Lesson(job, rows, teacher)
    found: dict[str, Any] = {"before": {"parameters": int(teacher.model.count_params())}}
    sides = (
        ("taught", arguments["alpha"], "training the student with its teacher"),
        ("alone", 0.0, "training the student without a teacher, to compare"),
    )
    for name, share, text in sides:
        keras, student = _student(job)
        require_same_ends(student, teacher, arguments["student"])
        fit(
            lesson,
            keras,
            student,
            course=course_of(job),
            text=text,
            share=share,
            temperature=arguments["temperature"],
        )
        found[name] = write(job, keras, student.model, name)
    return found


def _student(job: Job) -> tuple[Any, Named]:
    """(keras, the student), the same each time. Raises RefusedError."""
    name, kind, seed = (job.arguments[key] for key in ("student", "student_kind", "seed"))
    if kind:
        keras = keras_of(kind)
        keras.utils.set_random_seed(seed)
        model = load_keras(keras, name)
        model.trainable = True
        return keras, Named(model)
    for version in ("keras3", "keras2"):
        keras_of(version).utils.set_random_seed(seed)
    model = _made(name)
    old = any(base.__module__.startswith("tf_keras") for base in type(model).__mro__)
    return keras_of("keras2" if old else "keras3"), Named(model)


def _made(spec: str) -> Any:
    """What the user's function FILE.py:FUNCTION returns. Raises RefusedError with the place in that file."""
    place, _, function = spec.rpartition(":")
    file = Path(place)
    sys.path.insert(0, str(file.parent))  # what lies beside it can be imported, as when it is run
    try:
        specification = importlib.util.spec_from_file_location(file.stem, file)
        if specification is None or specification.loader is None:
            raise RefusedError(f"{spec}: {place} is no Python file")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            raise RefusedError(f"{spec}: {place} has no function {function!r}")
        model = getattr(module, function)()
    except RefusedError:
        raise
    except Exception as error:  # whatever the user's code raises, told below
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = f", line {frames[-1].lineno}" if frames else ""
        said = " ".join(str(error).split())[:_LONGEST]
        raise RefusedError(f"{spec}{line}: {type(error).__name__}: {said}") from error
    finally:
        sys.path.remove(str(file.parent))
    if not hasattr(model, "count_params") or not hasattr(model, "get_config"):
        raise RefusedError(f"{spec} returned {type(model).__name__}; it must return a Keras model, built, not trained")
    return model
