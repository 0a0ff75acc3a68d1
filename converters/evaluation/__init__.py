"""What a model does on a data set through the device's own arithmetic, and what it costs."""

from converters.evaluation.agreement import Agreement, HeadAgreement, compare_recorded
from converters.evaluation.cost import Cost, measure_cost
from converters.evaluation.paired import Drop
from converters.evaluation.recorded import Boxes, Recorded
from converters.evaluation.results import Evaluation, HeadEvaluation, evaluate, judge
from converters.evaluation.run import Recording, record

__all__ = [
    "Agreement",
    "Boxes",
    "Cost",
    "Drop",
    "Evaluation",
    "HeadAgreement",
    "HeadEvaluation",
    "Recorded",
    "Recording",
    "compare_recorded",
    "evaluate",
    "judge",
    "measure_cost",
    "record",
]
