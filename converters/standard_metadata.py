"""What standard tools are told of a model: its card, in the words of TFLite metadata.

Tensors stand in the order of the interpreter's own lists, which is the order that the standard goes by.
"""

from __future__ import annotations

from converters.tflite.metadata import (
    Tensor,
    boxes_tensor,
    feature_tensor,
    image_tensor,
    labelled_tensor,
    model_metadata,
)
from converters.tflite.tensors import tensors_of
from edge_agent.core.card_schema import CARD_MEMBER, ClassificationOutput, DetectionOutput, ImageInput
from edge_agent.core.model_card import ResolvedCard


def label_files(card: ResolvedCard) -> dict[str, str]:
    """Output name -> the member that holds its labels: "labels.txt" where there is only one."""
    if len(card.labels) == 1:
        return dict.fromkeys(card.labels, "labels.txt")
    return {name: f"labels-{name}.txt" for name in card.labels}


def metadata_of(model: bytes, card: ResolvedCard, description: str) -> bytes:
    """The TFLITE_METADATA buffer for a model with this card."""
    given, results = tensors_of(model)
    inputs = {**_images(card), **_features(card), **_states(card)}
    outputs = _outputs(card)
    other = {spec.name: feature_tensor(spec.name, "") for spec in (*given, *results)}
    return model_metadata(
        card.name,
        description,
        card.version,
        [inputs.get(spec.name, other[spec.name]) for spec in given],
        [outputs.get(spec.name, other[spec.name]) for spec in results],
    )


def normalisation(item: ImageInput) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) with which real = (pixel - mean) / std; a card that says nothing means pixel / 255."""
    if item.mean is None and item.std is None:
        return (0.0,), (255.0,)
    return tuple(item.mean or (0.0,)), tuple(item.std or (1.0,))


def _images(card: ResolvedCard) -> dict[str, Tensor]:
    return {
        item.tensor: image_tensor(item.tensor, f"{item.fit}, {item.resize}", item.color, *normalisation(item))
        for item in card.image_inputs
    }


def _features(card: ResolvedCard) -> dict[str, Tensor]:
    return {
        item.tensor: feature_tensor(
            item.tensor, f"scaled {', '.join(feature.name for feature in item.features)}: see {CARD_MEMBER}"
        )
        for item in card.feature_inputs
    }


def _states(card: ResolvedCard) -> dict[str, Tensor]:
    return {item.tensor: feature_tensor(item.tensor, f"fed back from {item.source}") for item in card.state_inputs}


def _outputs(card: ResolvedCard) -> dict[str, Tensor]:
    files = label_files(card)
    found: dict[str, Tensor] = {}
    for head in card.outputs:
        if isinstance(head, DetectionOutput):
            # the names by which the standard's readers know a detector's four tensors
            found[head.boxes] = boxes_tensor("location", "boxes")
            found[head.classes] = (
                labelled_tensor("category", "classes", files[head.name], of_values=True)
                if head.name in files
                else feature_tensor("category", "classes")
            )
            found[head.scores] = feature_tensor("score", "scores")
            found[head.count] = feature_tensor("number of detections", "count")
        elif isinstance(head, ClassificationOutput) and head.name in files:
            found[head.tensor] = labelled_tensor(head.name, "score of each class", files[head.name])
        else:
            found[head.tensor] = feature_tensor(head.name, str(head.__struct_config__.tag))
    return found
