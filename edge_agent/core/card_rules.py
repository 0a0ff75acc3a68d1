"""What must hold between a card and the tensors of the model that it describes. A rule that is broken is refused in
the name of the source that said it, so that the person who wrote it knows where to look."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    FeaturesInput,
    ImageInput,
    InputCard,
    OutputCard,
    RegressionOutput,
    StateInput,
)
from edge_agent.core.card_sources import Source, Specs
from edge_agent.records import TensorSpec

# The op documents the order of its outputs and its converter names them so: a name, not a shape, says what each is.
POSTPROCESS = tuple("TFLite_Detection_PostProcess" + suffix for suffix in ("", ":1", ":2", ":3"))


def described(spec: TensorSpec) -> str:
    """'uint8 [1, 224, 224, 3]'."""
    return f"{spec.dtype.name} {list(spec.shape)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean "x"?)', or nothing where no known word is near."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{match[0]}"?)' if match else ""


def looks_like_a_picture(spec: TensorSpec) -> bool:
    """(1, height, width, 1 or 3). Says what may be a picture, never that it is one."""
    return len(spec.shape) == 4 and spec.shape[0] == 1 and spec.shape[3] in (1, 3)


def elements(spec: TensorSpec) -> int:
    return math.prod(spec.shape)


def find(source: Source, name: str, specs: Specs, kind: str) -> TensorSpec:
    """The tensor that a card names. ``kind`` is "input" or "output"."""
    if name not in specs:
        known = ", ".join(f'"{spec.name}" ({described(spec)})' for spec in specs.values())
        raise source.refuse(f'no {kind} tensor "{name}"{nearest(name, specs)}: the model\'s {kind}s are {known}')
    return specs[name]


def check_input(source: Source, item: InputCard, inputs: Specs, outputs: Specs) -> None:
    spec = find(source, item.tensor, inputs, "input")
    if isinstance(item, ImageInput):
        _check_image(source, item, spec)
    elif isinstance(item, FeaturesInput):
        _check_features(source, item, spec)
    else:
        _check_state(source, item, spec, find(source, item.source, outputs, "output"))


def check_output(source: Source, item: OutputCard, outputs: Specs) -> None:
    if isinstance(item, DetectionOutput):
        _check_detection(source, item, outputs)
        return
    spec = find(source, item.tensor, outputs, "output")
    count = elements(spec)
    if isinstance(item, ClassificationOutput):
        _check_classification(source, item, spec)
    elif isinstance(item, RegressionOutput):
        if item.element >= count:
            raise source.refuse(
                f'output "{item.name}" takes element {item.element} of "{spec.name}", which has {count}'
            )
        if not (math.isfinite(item.scale) and math.isfinite(item.offset)):
            raise source.refuse(f'output "{item.name}" has scale {item.scale} and offset {item.offset}: not finite')
    else:
        _check_anomaly(source, item, spec)


def check_labels(source: Source, item: ClassificationOutput, labels: tuple[str, ...], spec: TensorSpec) -> None:
    if len(labels) != elements(spec):
        raise source.refuse(
            f'{len(labels)} labels for output "{item.name}", but "{spec.name}" has {elements(spec)} elements: '
            "one label for each is needed"
        )


def _check_image(source: Source, item: ImageInput, spec: TensorSpec) -> None:
    if not looks_like_a_picture(spec):
        raise source.refuse(
            f'"{spec.name}" is {described(spec)} and can\'t take a picture: [1, height, width, 1 or 3] is needed'
        )
    channels = spec.shape[3]
    if (item.color == "gray") != (channels == 1):
        allowed = '"gray"' if channels == 1 else '"rgb" or "bgr"'
        raise source.refuse(f'"{spec.name}" has {channels} channel(s) and color "{item.color}": {allowed} is allowed')
    for key, values in (("mean", item.mean), ("std", item.std)):
        if values is not None and len(values) not in (1, channels):
            raise source.refuse(
                f'"{spec.name}" has {len(values)} values in {key}: one, or one for each of {channels} channel(s)'
            )
        if values is not None and not all(map(math.isfinite, values)):
            raise source.refuse(f'"{spec.name}" has {key} {list(values)}: finite numbers are allowed')
    if item.std is not None and 0 in item.std:
        raise source.refuse(f'"{spec.name}" has std {list(item.std)}: pixels are divided by it, 0 is not allowed')


def _check_features(source: Source, item: FeaturesInput, spec: TensorSpec) -> None:
    names = [feature.name for feature in item.features]
    if len(names) != elements(spec):
        raise source.refuse(f'{len(names)} features for "{spec.name}", which has {elements(spec)} elements')
    for name in names:
        if names.count(name) > 1:
            raise source.refuse(f'two features of "{spec.name}" are named "{name}": each needs a name of its own')
    for feature in item.features:
        if feature.range is not None and not feature.range[0] < feature.range[1]:
            raise source.refuse(
                f'feature "{feature.name}" has range {list(feature.range)}: [lowest, highest] is needed'
            )


def _check_state(source: Source, item: StateInput, spec: TensorSpec, origin: TensorSpec) -> None:
    if (spec.shape, spec.dtype) != (origin.shape, origin.dtype):
        raise source.refuse(
            f'state "{item.tensor}" is {described(spec)}, its source "{origin.name}" is {described(origin)}: '
            "they must be the same"
        )
    if (spec.scale, spec.zero_point) != (origin.scale, origin.zero_point):
        raise source.refuse(
            f'state "{item.tensor}" has scale {spec.scale:g} and zero point {spec.zero_point}, its source '
            f'"{origin.name}" {origin.scale:g} and {origin.zero_point}: convert the model so that they are the same'
        )


def _check_classification(source: Source, item: ClassificationOutput, spec: TensorSpec) -> None:
    count = elements(spec)
    if count != max(spec.shape, default=0):
        raise source.refuse(
            f'"{spec.name}" is {described(spec)}: a classification is one row of scores, such as [1, N]'
        )
    if count < 2 and item.activation != "sigmoid":
        raise source.refuse(
            f'"{spec.name}" has one element: a classification needs at least 2, or activation = "sigmoid" for a '
            'single logit; a single probability is task = "regression"'
        )


def _check_detection(source: Source, item: DetectionOutput, outputs: Specs) -> None:
    boxes = find(source, item.boxes, outputs, "output")
    if len(boxes.shape) != 3 or boxes.shape[0] != 1 or boxes.shape[2] != 4:
        raise source.refuse(f'boxes "{boxes.name}" is {described(boxes)}, expected [1, N, 4]')
    for key, name in (("classes", item.classes), ("scores", item.scores)):
        spec = find(source, name, outputs, "output")
        if spec.shape != boxes.shape[:2]:
            raise source.refuse(f'{key} "{name}" is {described(spec)}, expected {list(boxes.shape[:2])} as the boxes')
    count = find(source, item.count, outputs, "output")
    if elements(count) != 1:
        raise source.refuse(f'count "{count.name}" is {described(count)}, expected one number')


def _check_anomaly(source: Source, item: AnomalyOutput, spec: TensorSpec) -> None:
    if elements(spec) != 1:
        raise source.refuse(f'"{spec.name}" is {described(spec)}: an anomaly score is one number')
    if not math.isfinite(item.threshold):
        raise source.refuse(f'output "{item.name}" has threshold {item.threshold}: a finite number is needed')
