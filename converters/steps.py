"""The steps between a workbench and a file that several commands share: calibrate, quantise, judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from converters.arrays import calibration_samples
from converters.evaluation.cost import measure_cost
from converters.evaluation.recorded import Recorded
from converters.evaluation.results import Evaluation, judge
from converters.evaluation.run import record
from converters.quantization.calibration import Calibration, Method, calibrate, pins_of, states_of
from converters.quantization.quantize import quantize
from converters.quantization.sensitivity import LayerError, rank_layers
from converters.records import Quantized, Scheme
from converters.tflite.graph import read_graph
from converters.tflite.own_normalisation import OwnNormalisation, find_own_normalisation
from converters.workbench import Workbench
from edge_agent.errors import ConfigError

CALIBRATION_SAMPLES = 300
RANKING_SAMPLES = 96
CALIBRATED: tuple[Scheme, ...] = ("int8", "mixed", "16x8")
Io = Literal["int8", "uint8", "float32"]


class Judged(Struct, frozen=True):
    """What a model answered on some rows, and how good that is."""

    recorded: Recorded
    evaluation: Evaluation

    @property
    def score(self) -> float:
        """The mean of the outputs' main scores."""
        scores = [self.score_of(name) for name in self.evaluation.outputs]
        return sum(scores) / len(scores)

    def score_of(self, output: str) -> float:
        """One output's main score; agreement with float where it is not defined on these rows (all labels equal)."""
        head = self.evaluation.outputs[output]
        if head.score is not None:
            return head.score
        return head.agreement.agreement if head.agreement else 0.0


def calibrated(bench: Workbench, *, samples: int = CALIBRATION_SAMPLES, method: Method = "min-max") -> Calibration:
    """Ranges from the calibration rows, the inputs' own ranges pinned by the card."""
    arrays = bench.arrays("calibration", samples)
    return calibrate(
        bench.source.content,
        calibration_samples(arrays),
        method=method,
        pins=pins_of(bench.float_model.card),
        states=states_of(bench.float_model.card),
        progress=bench.progress,
    )


def ranked_layers(bench: Workbench) -> tuple[LayerError, ...]:
    """What each layer costs alone, worst first."""
    samples = list(calibration_samples(bench.arrays("calibration", RANKING_SAMPLES)))
    return rank_layers(bench.source, calibrated(bench), samples, progress=bench.progress)


def own_normalisation(bench: Workbench) -> tuple[OwnNormalisation, ...]:
    """How the model itself scales its features: raw ranges destroy each other in int8, so those ops must stay in float.
    One factor for all of them is left alone: it changes nothing between them."""
    inputs = [item.tensor for item in bench.float_model.card.feature_inputs]
    found = find_own_normalisation(read_graph(bench.source.content), inputs)
    return tuple(chain for chain in found if not _one_factor(chain))


def kept_for(chains: Sequence[OwnNormalisation]) -> tuple[str, ...]:
    """The ops to keep in float, by their output tensors."""
    return tuple(name for chain in chains for name in chain.tensors)


def warnings_for(chains: Sequence[OwnNormalisation]) -> tuple[str, ...]:
    """For a person."""
    return tuple(
        f"warning: {chain.text()}: these ops and the input stay in float; scaling in the card, outside the model, "
        "would let all of it be int8 (docs/converters.md)"
        for chain in chains
    )


def _one_factor(chain: OwnNormalisation) -> bool:
    return chain.mean is not None and not any(chain.mean) and chain.std is not None and len(set(chain.std)) == 1


def quantized(
    bench: Workbench,
    scheme: Scheme,
    *,
    samples: int = CALIBRATION_SAMPLES,
    method: Method = "min-max",
    keep_float: Collection[str] = (),
    io: Io = "int8",
) -> Quantized:
    """One scheme, with what it needs: calibration rows for the integer ones."""
    if scheme not in CALIBRATED and keep_float:
        raise ConfigError(f"--keep-float does not go with {scheme}: it is for {', '.join(CALIBRATED)}")
    if scheme not in ("int8", "mixed") and io != "int8":
        raise ConfigError(f"--io {io} does not go with {scheme}, which takes and gives float32")
    chains = own_normalisation(bench) if scheme in CALIBRATED else ()
    for warning in warnings_for(chains):
        bench.progress.say(warning)
    kept = (*keep_float, *kept_for(chains))
    if scheme == "mixed" and not kept:
        raise ConfigError(
            "mixed keeps the ops in float that --keep-float names; `edge-convert inspect --layers` shows them"
        )
    calibration = calibrated(bench, samples=samples, method=method) if scheme in CALIBRATED else None
    return quantize(bench.source, scheme, calibration=calibration, keep_float=kept, io=io)


def judged(
    bench: Workbench, content: bytes, rows: Sequence[int], *, reference: Recorded | None = None, text: str = ""
) -> Judged:
    """Run the rows on the device's arithmetic and judge the answers; ``text`` says to a person what is run."""
    model = bench.device_model(content)
    try:
        recorded = record(model, bench.data(), rows, progress=bench.progress, text=text)
    finally:
        model.close()
    # a reference without labels is compared with itself, so that both have a score: full agreement
    return Judged(recorded, judge(recorded, reference=reference or recorded))


def with_costs(
    bench: Workbench, content: bytes, rows: Sequence[int], reference: Judged, deployed: Judged
) -> tuple[Judged, Judged]:
    """Both judgements with what the models cost on this machine, timed in turns."""
    models = {"float": bench.device_model(bench.source.content), "deployed": bench.device_model(content)}
    spent = measure_cost(models, bench.data().example(rows[0]), progress=bench.progress)
    for model in models.values():
        model.close()
    return (
        replace(reference, evaluation=replace(reference.evaluation, cost=spent["float"])),
        replace(deployed, evaluation=replace(deployed.evaluation, cost=spent["deployed"])),
    )
