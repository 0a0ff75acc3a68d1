"""The memory of probes: only good news, only as long as nothing changed, and worthless when damaged."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.io.runtimes.external import Plugin
from edge_agent.io.runtimes.probe_cache import Key, ProbeCache

KEY = Key.of("ab" * 32, "xnnpack", "ai-edge-litert 2.3.0", None)
PLUGIN = Plugin("libnpu.so.1", {"device": "usb"})


def test_what_was_remembered_is_known_to_the_next_process(tmp_path):
    folder = tmp_path / "cache" / "edge-agent"  # nobody has made it yet
    assert ProbeCache(folder).library_of(KEY) is None
    ProbeCache(folder).remember(KEY, "")
    assert ProbeCache(folder).library_of(KEY) == ""


@pytest.mark.parametrize(
    "other",
    [
        Key.of("cd" * 32, "xnnpack", "ai-edge-litert 2.3.0", None),
        Key.of("ab" * 32, "cpu", "ai-edge-litert 2.3.0", None),
        Key.of("ab" * 32, "xnnpack", "ai-edge-litert 2.4.0", None),
        Key.of("ab" * 32, "xnnpack", "ai-edge-litert 2.3.0", PLUGIN),
    ],
)
def test_another_model_back_end_runtime_or_library_is_not_known(tmp_path, other):
    ProbeCache(tmp_path).remember(KEY, "")
    assert ProbeCache(tmp_path).library_of(other) is None


def test_other_options_are_another_back_end_and_their_order_means_nothing(tmp_path):
    two = Plugin("x.so", {"a": "1", "b": "2"})
    library = tmp_path / "x.so"
    library.touch()
    ProbeCache(tmp_path).remember(Key.of("", "npu", "", two), str(library))
    swapped = two._replace(options={"b": "2", "a": "1"})
    assert ProbeCache(tmp_path).library_of(Key.of("", "npu", "", swapped)) == str(library)
    assert ProbeCache(tmp_path).library_of(Key.of("", "npu", "", two._replace(options={"a": "1"}))) is None


def test_a_replaced_or_removed_library_is_not_known(tmp_path):
    library = tmp_path / "libnpu.so.1"
    library.write_bytes(b"one")
    cache, key = ProbeCache(tmp_path), Key.of("ab" * 32, "npu", "r", PLUGIN)
    cache.remember(key, str(library))
    assert cache.library_of(key) == str(library)
    library.write_bytes(b"three")
    assert cache.library_of(key) is None
    cache.remember(key, str(library))
    found = library.stat()
    os.utime(library, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert cache.library_of(key) is None
    cache.remember(key, str(library))
    library.unlink()
    assert cache.library_of(key) is None
    cache.remember(key, str(library))
    assert cache.library_of(key) is None


def test_what_was_forgotten_is_not_known(tmp_path):
    cache = ProbeCache(tmp_path)
    other = Key.of("", "cpu", "", None)
    cache.remember(KEY, "")
    cache.remember(other, "")
    cache.forget(KEY)
    assert cache.library_of(KEY) is None
    assert cache.library_of(other) == ""


def test_the_file_does_not_grow_for_ever_and_the_oldest_goes(tmp_path):
    cache = ProbeCache(tmp_path)
    keys = [Key.of(str(number), "cpu", "r", None) for number in range(40)]
    for key in keys:
        cache.remember(key, "")
    assert cache.library_of(keys[0]) is None
    assert cache.library_of(keys[-1]) == ""
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())["usable"]) == 32


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60)
    | st.sampled_from([b'{"schema":"edge-agent/probe-cache/2"}', b'{"schema":"edge-agent/probe-cache/1","usable":[7]}'])
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(tmp_path, content):
    (tmp_path / "probe-cache.json").write_bytes(content)
    cache = ProbeCache(tmp_path)
    assert cache.library_of(KEY) is None
    cache.remember(KEY, "")
    assert cache.library_of(KEY) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["probe-cache.json"]


def test_a_folder_that_can_not_be_written_costs_only_the_memory(tmp_path):
    file_in_its_place = tmp_path / "state"
    file_in_its_place.touch()
    for cache in (ProbeCache(file_in_its_place), ProbeCache(file_in_its_place / "below"), ProbeCache(None)):
        cache.remember(KEY, "")
        cache.forget(KEY)
        assert cache.library_of(KEY) is None
    assert list(tmp_path.iterdir()) == [file_in_its_place]
