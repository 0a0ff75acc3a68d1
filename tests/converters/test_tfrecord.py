"""TFRecord files: framing, checksums, the message, and what the keys mean. No TensorFlow but in the last tests."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.datasets import open_dataset
from converters.datasets.crc32c import crc32c
from converters.datasets.record_file import parse_example, scan
from converters.environments import python_of
from converters.errors import EnvironmentMissingError
from converters.records import Box
from edge_agent.core.card_schema import Feature
from edge_agent.errors import ConfigError
from tests.converters.dataset_folders import (
    CLASSIFICATION,
    DETECTION,
    REGRESSION,
    bitwise_crc32c,
    card,
    example_message,
    picture,
    png,
    record,
)


def written(path, *messages):
    path.write_bytes(b"".join(map(record, messages)))
    return path


def row(number, **more):
    """A record as a training pipeline writes it."""
    features = {"weight": 100.0 + number, "temperature": 50, "label": number % 3}
    return example_message(**{"image__encoded": png(number), **features, **more})


def refused(spec, resolved):
    with pytest.raises(ConfigError) as caught:
        open_dataset(str(spec), resolved)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- checksums, framing, message


def test_the_checksum_is_that_of_the_standard():
    # RFC 3720, appendix B.4, and the check value of the catalogue of CRC algorithms
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=300), length=st.integers(4090, 4400))
def test_long_contents_have_the_checksum_that_the_definition_gives(content, length):
    whole = (content * (length // max(len(content), 1) + 1))[:length] if content else bytes(length)
    assert crc32c(whole) == bitwise_crc32c(whole)


@given(contents=st.lists(st.binary(max_size=80), max_size=6))
def test_records_come_back_in_order_with_their_places(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("records") / "a.tfrecord"
    path.write_bytes(b"".join(map(record, contents)))
    found = list(scan(path))
    assert [content for _, content in found] == contents
    whole = path.read_bytes()
    assert all(whole[offset : offset + len(content)] == content for offset, content in found)


@given(
    floats=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
    whole=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    texts=st.lists(st.binary(max_size=20), min_size=1, max_size=4),
)
def test_an_example_holds_floats_whole_numbers_and_bytes(floats, whole, texts):
    found = parse_example(example_message(f=floats, i=whole, b=texts, nothing=[]), "here")
    assert found == {"f": floats, "i": whole, "b": texts, "nothing": []}


def damaged(path, place, value):
    content = bytearray(path.read_bytes())
    content[place] ^= value
    path.write_bytes(content)
    return path


def test_every_damaged_byte_of_a_file_is_noticed(tmp_path):
    path = written(tmp_path / "a.tfrecord", b"abc", b"defgh")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole)
        with pytest.raises(ConfigError, match=r"record [12]: the checksum"):
            list(scan(damaged(path, place, 0x10)))


def test_a_file_that_ends_early_is_noticed_wherever_it_ends(tmp_path):
    path = written(tmp_path / "a.tfrecord", b"abc", b"defgh")
    whole = path.read_bytes()
    first = len(record(b"abc"))
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        if end in (0, first):  # between two records nothing is missing that one could know of
            assert len(list(scan(path))) == (end > 0)
        else:
            with pytest.raises(ConfigError, match=f"record {1 + (end > first)}: the file ends inside it"):
                list(scan(path))


def test_a_length_that_no_record_has_is_refused_before_it_is_read(tmp_path):
    length = struct.pack("<Q", 2**40)
    masked = record(bytes(0))[8:12]  # of another length
    path = tmp_path / "a.tfrecord"
    path.write_bytes(length + masked)
    assert "checksum of its length" in refused(path, card())
    from converters.datasets.crc32c import masked as checksum

    path.write_bytes(length + struct.pack("<I", checksum(length)))
    assert "1099511627776 bytes; at most" in refused(path, card())


def test_what_is_no_example_is_told_with_its_record(tmp_path):
    path = written(tmp_path / "a.tfrecord", row(0), b"\x0a\xff\xff")
    assert f"{path}, record 2: not a tf.train.Example" in refused(path, card())


# -- what the keys mean


def test_records_have_pictures_features_and_labels(tmp_path):
    dataset = open_dataset(str(written(tmp_path / "a.tfrecord", *map(row, range(6)))), card())
    example = dataset.example(4)
    np.testing.assert_array_equal(example.images["image"], picture(4))
    assert example.features == {"weight": 104.0, "temperature": 50.0}
    assert (example.labels, example.id) == ({"fault": 1}, "a.tfrecord:5")
    assert tuple(dataset.rows("test")) == (4,)


def test_a_compressed_file_holds_the_same(tmp_path):
    plain = written(tmp_path / "a.tfrecord", *map(row, range(3)))
    packed = tmp_path / "b.tfrecord.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = open_dataset(str(plain), card()), open_dataset(str(packed), card())
    for number in (2, 0):
        np.testing.assert_array_equal(one.example(number).images["image"], other.example(number).images["image"])
        assert one.example(number).features == other.example(number).features
    packed.write_bytes(packed.read_bytes()[:-20])
    assert "can't be read" in refused(packed, card())


def test_keys_of_tensorflows_image_data_sets_are_known(tmp_path):
    more = {"image__class__label": 1, "image__filename": "x.png"}
    message = example_message(**{"image__encoded": png(1), "weight": 1.0, "temperature": 2.0, **more})
    example = open_dataset(str(written(tmp_path / "a.tfrecord", message)), card()).example(0)
    assert (example.id, example.labels) == ("x.png", {"fault": 1})


def test_a_class_by_name_goes_before_one_by_number(tmp_path):
    # the numbers of object detection and of ImageNet begin at 1
    message = example_message(image=png(1), image__class__label=3, image__class__text="worn")
    path = written(tmp_path / "a.tfrecord", message)
    assert open_dataset(str(path), card(features=())).example(0).labels == {"fault": 2}
    assert open_dataset(str(path), card(features=(), classes=())).example(0).labels == {"fault": 3}


def test_boxes_are_read_from_the_keys_of_object_detection(tmp_path):
    sides = {"xmin": [0.1, 0.0], "ymin": [0.25, 0.5], "xmax": [0.75, 1.0], "ymax": [0.5, 1.0]}
    corners = {f"image__object__bbox__{side}": values for side, values in sides.items()}
    found = example_message(image=png(0), image__object__class__text=["worn", "good"], **corners)
    by_index = example_message(image=png(0), image__object__class__label=[1, 0], **corners)
    nothing = example_message(image=png(0), image__object__bbox__xmin=[], image__object__class__text=[])
    path = written(tmp_path / "a.tfrecord", found, by_index, nothing)
    dataset = open_dataset(str(path), card([DETECTION], features=()))
    (first, second) = dataset.example(0).labels["objects"]
    assert (first.index, second) == (2, Box(0, (0.0, 0.5, 1.0, 1.0)))
    assert first.corners == pytest.approx((0.1, 0.25, 0.75, 0.5))
    assert [box.index for box in dataset.example(1).labels["objects"]] == [1, 0]
    assert dataset.example(2).labels["objects"] == ()
    uneven = example_message(image=png(0), image__object__class__text=["worn"], **corners)
    path = written(tmp_path / "b.tfrecord", uneven)
    assert "have 2, 2, 2, 2, 1 elements" in refused(path, card([DETECTION], features=()))


def test_several_pictures_and_outputs_have_a_key_each(tmp_path):
    more = {"image__right__encoded": png(1), "label__fault": "hollow", "label__wear": 0.5, "split": "test", "id": 7}
    path = written(tmp_path / "a.tfrecord", example_message(image__left=png(0), **more))
    resolved = card([CLASSIFICATION, REGRESSION], images=("left", "right"), features=())
    example = open_dataset(str(path), resolved).example(0)
    np.testing.assert_array_equal(example.images["left"], picture(0))
    np.testing.assert_array_equal(example.images["right"], picture(1))
    assert (example.labels, example.id) == ({"fault": 1, "wear": 0.5}, "7")


def test_a_feature_that_one_record_lacks_is_missing_there(tmp_path):
    without = example_message(image__encoded=png(1), weight=3.0, label=0)
    dataset = open_dataset(str(written(tmp_path / "a.tfrecord", row(0), row(1, temperature=[]), without)), card())
    assert [dataset.example(number).filled for number in range(3)] == [(), ("temperature",), ("temperature",)]


def test_a_key_may_have_a_unit(tmp_path):
    path = written(tmp_path / "a.tfrecord", example_message(**{"image": png(0), "speed [km/h]": 36.0}))
    example = open_dataset(str(path), card(features=[Feature(name="speed", unit="m/s")])).example(0)
    assert example.features["speed"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weight": [1.0, 2.0]}, 'key "weight": found [1.0, 2.0], a number is needed'),
        ({"weight": "heavy"}, "key \"weight\": found 'heavy'"),
        ({"label": 3}, 'key "label": class 3 is out of range'),
        ({"split": "dev"}, "allowed are train"),
        ({"image__encoded": 5}, "no picture for the input 'image'; encoded bytes are needed"),
        ({"image__encoded": []}, "no picture for the input 'image'"),
    ],
)
def test_a_record_that_does_not_fit_is_told_with_file_number_and_key(tmp_path, change, told):
    path = written(tmp_path / "a.tfrecord", row(0), row(1, **change))
    message = refused(path, card())
    assert told in message
    assert f"{path}, record 2" in message


def test_a_feature_that_no_record_has_names_the_keys_found(tmp_path):
    path = written(tmp_path / "a.tfrecord", example_message(image=png(0), wieght=1.0, temperature=2.0))
    message = refused(path, card())
    assert 'no key "weight", which the model needs (did you mean "wieght"?)' in message
    assert 'keys found: "image", "temperature", "wieght"' in message


def test_bytes_that_are_no_picture_are_told_when_they_are_read(tmp_path):
    dataset = open_dataset(str(written(tmp_path / "a.tfrecord", row(0, image__encoded=b"\0" * 100))), card())
    with pytest.raises(ConfigError) as caught:
        dataset.example(0)
    assert str(caught.value).startswith(f'{tmp_path / "a.tfrecord"}, record 1, key "image/encoded": not a picture')


# -- shards


def test_shards_of_a_folder_or_pattern_are_read_in_the_order_of_their_names(tmp_path):
    for shard in (1, 0):
        written(tmp_path / f"set.tfrecord-0000{shard}-of-00002", row(2 * shard), row(2 * shard + 1))
    for spec in (tmp_path, tmp_path / "set.tfrecord-*"):
        dataset = open_dataset(str(spec), card())
        assert [dataset.example(number).features["weight"] for number in range(4)] == [100, 101, 102, 103]


def test_shards_named_after_splits_are_those_splits(tmp_path):
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"):
        written(tmp_path / name, row(0), row(1))
    dataset = open_dataset(str(tmp_path), card())
    for split, shard in {"train": "train", "calibration": "validation", "test": "test"}.items():
        ids = [dataset.example(number).id for number in dataset.rows(split)]
        assert ids == [f"{shard}-00000-of-00001:1", f"{shard}-00000-of-00001:2"]


def test_a_pattern_without_files_is_told(tmp_path):
    assert "no TFRecord matches it" in refused(tmp_path / "none-*.tfrecord", card())


def test_the_hash_is_of_every_shard(tmp_path):
    first, second = tmp_path / "0.tfrecord", tmp_path / "1.tfrecord"
    hashes = set()
    for last in (1, 2):
        written(first, row(0))
        written(second, row(last))
        hashes.add(open_dataset(str(tmp_path), card()).sha256())
    assert len(hashes) == 2


# -- written by TensorFlow

WRITER = """
import sys
import tensorflow as tf
def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
for kind in ("", "GZIP"):
    path = sys.argv[1] + ("/b.tfrecord.gz" if kind else "/a.tfrecord")
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type=kind)) as writer:
        for number in range(5):
            pixels = tf.constant([[[number, 50, 100]] * 90] * 70, tf.uint8)
            values = {
                "image/encoded": tf.io.encode_png(pixels).numpy(), "weight": number + 0.5, "temperature": -number,
                "label": number % 3, "split": b"test" if number > 2 else b"train",
            }
            features = tf.train.Features(feature={key: feature(value) for key, value in values.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    with tf.io.TFRecordWriter(sys.argv[1] + "/long.tfrecord") as writer:
        writer.write(bytes(range(256)) * 500)
"""


@pytest.fixture(scope="module")
def by_tensorflow(tmp_path_factory):
    try:
        python = python_of("keras")
    except (EnvironmentMissingError, ConfigError) as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("tensorflow")
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([python, "-c", WRITER, str(folder)], check=True, env=variables, timeout=300, capture_output=True)
    return folder


@pytest.mark.keras
@pytest.mark.parametrize("name", ["a.tfrecord", "b.tfrecord.gz"])
def test_what_tensorflow_writes_is_read(by_tensorflow, name):
    dataset = open_dataset(str(by_tensorflow / name), card())
    assert (len(dataset), tuple(dataset.rows("test"))) == (5, (3, 4))
    example = dataset.example(4)
    assert example.images["image"].shape == (70, 90, 3)
    assert example.images["image"][9, 9].tolist() == [100, 50, 4]  # written as RGB
    assert (example.features, example.labels) == ({"weight": 4.5, "temperature": -4.0}, {"fault": 1})


@pytest.mark.keras
def test_a_long_record_of_tensorflow_has_the_checksum_that_we_compute(by_tensorflow):
    assert [content for _, content in scan(by_tensorflow / "long.tfrecord")] == [bytes(range(256)) * 500]
