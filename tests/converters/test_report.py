"""The HTML report: one file that stands alone, says what was measured, and takes any name without harm."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.converters import world
from converters.__main__ import main
from converters.arrays import calibration_samples, make_arrays
from converters.card_file import card_toml
from converters.device_model import DeviceModel
from converters.evaluation import judge, record
from converters.evaluation.as_trained import AsTrained, Step
from converters.evaluation.classification import CALIBRATION_BINS, calibration_error, classification_result
from converters.inspection import inspect
from converters.quantization.calibration import calibrate, pins_of
from converters.quantization.quantize import quantize
from converters.quantization.rungs import Ladder, Rung
from converters.quantization.sensitivity import LayerError
from converters.records import Box, Example
from converters.report import ReportContent, write_report
from converters.report.blocks import HeatMap, Matrix, Page, Section, Tiles
from converters.report.confusion import confusion_blocks
from converters.report.content import worst_samples
from converters.report.drawing import draw, short
from converters.report.page import html, page_of
from converters.report.pictures import picture_uri
from converters.report.results import reliability_curve
from converters.steps import Judged
from edge_agent.core.model_card import checked_card
from edge_agent.errors import ConfigError
from tests.converters.rows import Rows
from tests.simulators.float_models import GraphBuilder, digits_and_wine, examples_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = f"{ROOT}/benchmarks/converters/world.py:rows"
COUNT = 60
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Document(HTMLParser):
    """The elements of a page: ``elements`` as (tag, attributes), in order; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "elements that are never closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.all("section")]


def classification(content=None, labels=world.LABELS, count=COUNT):
    """The hybrid on real rows, as (model, its rows' data set)."""
    card = {**world.card(), "name": "wine-codes"}
    card["outputs"] = [{**card["outputs"][0], "labels": list(labels)}]
    return DeviceModel(content or digits_and_wine().content, card=card), Rows(examples_of("test", count))


def judged_on(model, rows, reference=None):
    recorded = record(model, rows, rows.rows("test"))
    return Judged(recorded, judge(recorded, reference=reference.recorded if reference else None))


def compared(before, after, rows, **more):
    """A report's content about ``after``, made from ``before``."""
    reference = judged_on(before, rows)
    deployed = judged_on(after, rows, reference)
    samples = worst_samples(rows, rows.rows("test"), deployed)
    return ReportContent(model=after, deployed=deployed, reference=reference, samples=samples, **more)


def document(content):
    return Document(html(page_of(content)))


@pytest.fixture(scope="module")
def int8():
    """The same hybrid after post-training quantisation."""
    source = digits_and_wine()
    model, _ = classification(source.content)
    rows = Rows(examples_of("calibration", 40))
    samples = calibration_samples(make_arrays(rows, rows.rows("calibration"), model))
    calibration = calibrate(source.content, samples, pins=pins_of(model.card))
    return quantize(source, "int8", calibration=calibration).content


@pytest.fixture(scope="module")
def whole(int8, tmp_path_factory):
    """A report with every section of a classification."""
    path = tmp_path_factory.mktemp("model") / "int8.tflite"
    path.write_bytes(int8)
    before, rows = classification()
    after, _ = classification(int8)
    rungs = (
        Rung("int8, min-max", "missed", "too far", scheme="int8", score=0.5, drop=0.4, agreement=0.5, bytes=100_000),
        Rung("mixed, 1 layer in float", "met", "good", "mixed", 0.9, 0.0, 0.9, 0.0, 1.0, 101_000, ("dense",), 1.0),
        Rung("quantisation-aware training", "skipped", "not asked for"),
    )
    names = {"code": "accuracy"}
    steps = AsTrained(
        COUNT,
        names,
        (
            Step("as trained", "in its own framework", {"code": 0.95}),
            Step("float on the device", "float", {"code": 0.80}, {"code": 0.15}, {"code": 0.8}, {"code": 0.4}),
        ),
        explanation="the card says bilinear, the training used area",
    )
    layers = (LayerError("dense", "FULLY_CONNECTED", 1.0, 0.2, 30.0), LayerError("conv", "CONV_2D", 1e-4, 0.0, 0.29))
    return compared(
        before,
        after,
        rows,
        bound=0.01,
        as_trained=steps,
        inspection=inspect(path),
        ladder=Ladder(rungs, 0.01, True, 1, None, layers),
        float_bytes=len(digits_and_wine().content),
    )


@pytest.fixture(scope="module")
def page(whole):
    return document(whole)


def test_the_file_stands_alone(whole, page):
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
    text = html(page_of(whole))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_who_cannot_see_is_told_the_same(page):
    found = page
    assert all(image["alt"] for image in found.all("img"))
    charts = [svg for svg in found.all("svg") if svg["class"] == "chart"]
    assert len(charts) >= 6
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in charts)
    assert all(head.get("scope") in ("col", "row") for head in found.all("th"))
    assert found.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_link_of_the_contents_leads_to_a_section(page):
    assert [link["href"].removeprefix("#") for link in page.all("a")] == page.sections()


def test_a_report_with_everything_has_every_section(page):
    assert page.sections() == [
        *("ladder", "steps", "results-0", "layers", "samples", "tensors", "places", "size", "origin")
    ]


def test_what_is_absent_has_no_section():
    model, _ = classification()
    found = document(ReportContent(model))
    assert found.sections() == ["tensors", "origin"]
    assert "Nothing was measured" in found.text


def test_the_same_content_gives_the_same_bytes(whole, tmp_path):
    first, second = (write_report(whole, tmp_path / name) for name in ("a.html", "b.html"))
    assert first.sha256 == second.sha256


def test_the_report_says_the_measured_numbers(whole, page):
    found, deployed = page, whole.deployed.evaluation.outputs["code"]
    assert f"{deployed.score:.4f}" in found.text
    assert f"{deployed.agreement.agreement:.4f}" in found.text
    assert whole.model.file.sha256 in found.text
    for rung in whole.ladder.rungs:
        assert rung.name in found.text
    assert "skipped: not asked for" in found.text
    assert "The card says bilinear, the training used area." in found.text


@pytest.mark.parametrize(("bound", "word"), [(1.0, "Bound met."), (-1.0, "Bound missed."), (None, "No bound was")])
def test_the_verdict_is_said_in_words_not_in_colour_alone(int8, bound, word):
    before, rows = classification()
    after, _ = classification(int8)
    text = document(compared(before, after, rows, bound=bound)).text
    assert word in text
    assert len([other for other in ("Bound met.", "Bound missed.", "No bound was") if other in text]) == 1


@pytest.mark.parametrize(
    "label",
    [
        "<script>alert(1)</script>",
        '" onload="alert(1)',
        "</text></svg><img src=x onerror=alert(1)>",
        "$x^2$ & $y",
        "font-family: x",
        "_hidden",
        "{{ page.title }}",
        "line\nbreak\x07\x00",
        "ein sehr langer Name für eine Klasse, der nirgends in einen Rahmen passt, auch nicht hier",
        "日本語のラベル",
    ],
)
def test_a_label_from_outside_is_text_and_nothing_else(label, int8):
    labels = [label, *world.LABELS[1:]]
    before, rows = classification(labels=labels, count=8)
    after, _ = classification(int8, labels=labels)
    found = document(compared(before, after, rows))
    assert not found.all("script")
    assert not [attributes for _, attributes in found.elements if {"onload", "onerror"} & attributes.keys()]
    assert short(label.replace("\0", "\N{REPLACEMENT CHARACTER}"))[:8].split("\n")[0].strip("\x07") in found.text


def test_a_long_name_keeps_its_end():
    assert short("block_1_expand/conv/with/a/very/long/name/batchnorm_13") == "block_1_e…ame/batchnorm_13"
    assert len(short("x" * 200)) == 26


@given(stated=st.lists(st.floats(0, 1), min_size=1, max_size=60), seed=st.integers(0, 2**16))
def test_the_reliability_diagram_shows_just_the_calibration_error(stated, seed):
    scores = np.column_stack([stated, 1 - np.array(stated)])
    best = np.zeros(len(stated), np.int64)
    truth = np.random.default_rng(seed).integers(0, 2, len(stated))
    curve = reliability_curve("x", scores[:, 0], best == truth)
    weighted = sum(n * abs(s - r) for n, s, r in zip(curve.rows, curve.stated, curve.right, strict=True))
    assert weighted / len(stated) == pytest.approx(calibration_error(scores, best, truth))
    assert len(curve.rows) <= CALIBRATION_BINS


def result_of(count, rows=400, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, count, rows)
    best = np.where(rng.random(rows) < 0.8, truth, rng.integers(0, count, rows))
    names = [f"class {number}" for number in range(count)]
    return classification_result(np.eye(count)[best], best, truth, names, activation="none", floor=1e-7)


@pytest.mark.parametrize(("count", "kind"), [(2, Matrix), (16, Matrix), (17, HeatMap), (200, HeatMap), (201, None)])
def test_confusion_is_written_for_few_classes_and_drawn_for_many(count, kind):
    shown = [block for block in confusion_blocks(result_of(count), result_of(count, seed=2)) if block.kind == "columns"]
    if kind is None:
        assert shown == []
    else:
        assert [type(block) for block in shown[0].blocks] == [kind] * 3


def test_the_difference_of_two_confusions_adds_up():
    before, after = result_of(5), result_of(5, seed=2)
    columns = next(block for block in confusion_blocks(before, after) if block.kind == "columns")
    cells = [
        [int(c.text.replace("\N{MINUS SIGN}", "-").replace("·", "0")) for c in line] for line in columns.blocks[2].cells
    ]
    assert np.array_equal(cells, np.array(after.confusion) - np.array(before.confusion))
    diagonal = [columns.blocks[2].cells[k][k] for k in range(5) if cells[k][k]]
    assert all(cell.tone == ("good" if cell.text.startswith("+") else "bad") for cell in diagonal)


def test_samples_show_pictures_readings_and_both_answers(whole, page):
    found = page
    worst = whole.deployed.evaluation.outputs["code"].agreement.worst
    pictures = [image for image in found.all("img") if image["src"].startswith("data:image/png")]
    assert len(pictures) == len(worst) > 0
    for answers in worst:
        assert answers.id in found.text
        assert answers.other in found.text
    assert all(name in found.text for name in world.UNITS)


def test_a_picture_in_the_page_is_the_picture(whole):
    sample = whole.samples[0]
    uri = picture_uri(sample.images["image"])
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, sample.images["image"])
    large = np.zeros((1080, 1920, 3), np.uint8)
    assert len(picture_uri(large)) < 20_000


def one_dense(weights, bias, head):
    graph = GraphBuilder()
    source = graph.tensor("sensors", (1, 2))
    result = graph.dense(source, np.asarray(weights, np.float32), np.asarray(bias, np.float32), "dense", relu=False)
    inputs = [{"role": "features", "tensor": "sensors", "features": [{"name": "a"}, {"name": "b", "unit": "mm"}]}]
    card = {"name": "two-sensors", "inputs": inputs, "outputs": [{"tensor": "y", **head}]}
    return DeviceModel(graph.finish({"sensors": source}, {"y": result}), card=card)


def readings(truth_of, count=80):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(count, 2))
    return Rows(
        [
            Example(f"row-{n}", {}, {"a": float(a), "b": float(b)}, {"out": truth_of(a, b)})
            for n, (a, b) in enumerate(values)
        ]
    )


def test_a_regression_has_its_scatter_and_its_unit():
    head = {"task": "regression", "name": "out", "unit": "kPa"}
    rows = readings(lambda a, b: float(2 * a + b))
    content = compared(one_dense([[2, 1]], [0], head), one_dense([[2.1, 0.9]], [0.05], head), rows)
    found = document(content)
    assert "mean absolute error (kPa)" in found.text
    assert any("Answers against the truth" in svg["aria-label"] for svg in found.all("svg"))
    assert "another answer" not in found.text


def test_an_anomaly_has_its_histogram_and_threshold():
    head = {"task": "anomaly", "name": "out", "threshold": 1.5}
    rows = readings(lambda a, b: bool(a + b > 1.5))
    content = compared(one_dense([[1, 1]], [0], head), one_dense([[1, 0.7]], [0], head), rows)
    labels = [svg["aria-label"] for svg in document(content).all("svg")]
    assert any("threshold 1.5" in label for label in labels)


def test_a_detection_draws_truth_and_both_models_boxes(shared):
    content = detection(shared)
    found = document(content)
    classes = [rect["class"] for rect in found.all("rect") if "class" in rect]
    assert {"truth", "float", "deployed"} <= set(classes)
    assert "mAP@[.5:.95]" in found.text
    for rect in (rect for rect in found.all("rect") if "class" in rect):
        assert 0 <= float(rect["x"]) <= 100
        assert float(rect["x"]) + float(rect["width"]) <= 100.1


def detection(shared):
    """The public traffic model as it should be run, and run with red and blue swapped."""
    name = "TFLite_Detection_PostProcess"
    outputs = [
        {"task": "detection", "boxes": name, "classes": f"{name}:1", "scores": f"{name}:2", "count": f"{name}:3"}
    ]
    states = [
        {"role": "state", "tensor": f"raw_inputs/init_lstm_{s}", "source": f"raw_outputs/lstm_{s}"} for s in ("c", "h")
    ]

    def model(color):
        image = {"role": "image", "tensor": "normalized_input_image_tensor", "color": color}
        outputs[0]["threshold"] = 0.3
        card = {"name": "traffic", "inputs": [image, *states], "outputs": outputs}
        return DeviceModel((shared / "models" / "traffic_model.tflite").read_bytes(), card=card)

    pictures = [cv2.imread(str(path)) for path in sorted((shared / "images").glob("traffic_*.bmp"))]
    plain = Rows(
        [Example(f"picture-{n}", {"normalized_input_image_tensor": p}, {}, {}) for n, p in enumerate(pictures)]
    )
    found = judged_on(model("rgb"), plain).recorded.boxes["objects"]
    examples = []
    for example, boxes in zip((plain.example(n) for n in range(len(plain))), found, strict=True):
        kept = [
            Box(int(i), tuple(c)) for i, s, c in zip(boxes.indices, boxes.scores, boxes.corners, strict=True) if s > 0.4
        ]
        examples.append(Example(example.id, example.images, {}, {"objects": tuple(kept)}))
    return compared(model("rgb"), model("bgr"), Rows(examples))


def test_every_chart_ignores_what_a_reader_chose_for_matplotlib():
    def paint(axes):
        axes.plot([0, 1], [0, 1])

    plain = draw(1.0, "a line", paint)
    with matplotlib.rc_context({"font.size": 40.0, "svg.fonttype": "path"}):
        assert draw(1.0, "a line", paint) == plain


def test_a_page_without_numbers_is_still_a_page():
    empty = Page("<model>", "1", "0" * 64, "Nothing.", "note", Tiles(()), (Section("a", "A", ()),))
    assert "<model>" in Document(html(empty)).text


@pytest.fixture(scope="module")
def files(int8, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "int8.tflite").write_bytes(int8)
    (folder / "float.tflite").write_bytes(digits_and_wine().content)
    (folder / "card.toml").write_text(card_toml(checked_card(world.card(), "world")))
    return folder


def test_the_command_reports_on_a_model_and_its_source(files, capsys):
    output = files / "report.html"
    command = [
        "report",
        str(files / "int8.tflite"),
        "--card",
        str(files / "card.toml"),
        "--data",
        ROWS,
        "--limit",
        "50",
    ]
    code = main([*command, "--source", str(files / "float.tflite"), "--max-drop", "0.5", "-o", str(output), "--json"])
    assert code == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "edge-agent/convert-report/1"
    assert answer["bytes"] == output.stat().st_size
    found = Document(output.read_text())
    assert {"results-0", "layers", "tensors", "places", "size", "cost", "origin"} <= set(found.sections())
    assert "Bound met." in found.text
    assert "50 test rows" in found.text


def test_the_command_reports_without_data(files):
    output = files / "plain.html"
    assert main(["report", str(files / "int8.tflite"), "--card", str(files / "card.toml"), "-o", str(output)]) == 0
    assert Document(output.read_text()).sections() == ["tensors", "places", "size", "origin"]


def test_a_source_without_data_is_refused_before_work(files, capsys):
    command = ["report", str(files / "int8.tflite"), "--card", str(files / "card.toml"), "-o", str(files / "no.html")]
    assert main([*command, "--source", str(files / "float.tflite")]) == 2
    assert "add --data" in capsys.readouterr().err
    assert not (files / "no.html").exists()


def test_a_report_that_cannot_be_written_is_said_first(whole, tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        write_report(whole, tmp_path / "missing" / "report.html")
