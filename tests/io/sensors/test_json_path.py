import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.io.sensors.json_path import JsonFields, JsonPath
from tests.io.sensors.making import sensor_config

DOCUMENT = {"a": {"b": [{"c": 5}, [6, 7]], "odd.key": 8, 'quo"te': 9}, "t-1": 10, "$x": 11}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b[0].c", 5),
        ("$.a.b[0].c", 5),
        ("a.b[1][1]", 7),
        ('a["odd.key"]', 8),
        ('$["a"]["odd.key"]', 8),
        ('a["quo\\"te"]', 9),
        ("t-1", 10),
        ("$x", 11),
        ("$", DOCUMENT),
    ],
)
def test_a_path_finds_its_value(path, value):
    assert JsonPath.parse(path).find(DOCUMENT) == value


@pytest.mark.parametrize("path", ["b", "a.c", "a[0]", "a.b.c", "a.b[2]", "a.b[0].c.d", "a.b[0][0]"])
def test_a_place_that_the_document_lacks_gives_nothing(path):
    assert JsonPath.parse(path).find(DOCUMENT) is None


@pytest.mark.parametrize(
    "path", ["", ".a", "a.", "a..b", "a[", "a[x]", "a[-1]", "a[0]b", "a b", "a['b']", 'a["b]', "$a b"]
)
def test_a_malformed_path_says_where_and_what_is_allowed(path):
    with pytest.raises(ValueError, match=r"from character \d+ on; expected names joined by dots"):
        JsonPath.parse(path)


def test_a_malformed_select_is_a_configuration_error_that_names_the_field():
    with pytest.raises(ConfigError, match=r'sensor "s", field "t", select: JSON path "a\.\."'):
        JsonFields(sensor_config("mqtt:x", {"t": {"select": "a.."}}))


json_values = st.recursive(
    st.integers() | st.text() | st.booleans(),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(), inner, min_size=1, max_size=3),
)


@given(document=json_values, data=st.data())
def test_every_place_of_any_document_has_a_path(document, data):
    path, here = "$", document
    while isinstance(here, list | dict) and data.draw(st.booleans()):
        if isinstance(here, list):
            step = data.draw(st.integers(0, len(here) - 1))
            path += f"[{step}]"
        else:
            step = data.draw(st.sampled_from(sorted(here)))
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            path += f'["{escaped}"]'
        here = here[step]
    if all(character >= " " for character in path):  # JSON writes control characters another way
        assert JsonPath.parse(path).find(document) is here


def test_values_keep_the_type_that_the_device_gave():
    fields = JsonFields(sensor_config("mqtt:x", ["n", "f", "t", "b"]))
    values = fields.values('{"n": 1, "f": 1.5, "t": "2.5", "b": true}')
    assert values == {"n": 1, "f": 1.5, "t": "2.5", "b": True}
    assert [type(value) for value in values.values()] == [int, float, str, bool]


def test_null_and_nested_values_are_left_out():
    fields = JsonFields(sensor_config("mqtt:x", ["a", "b", "c", "d"]))
    assert fields.values('{"a": null, "b": {}, "c": [1], "d": 2}') == {"d": 2}


def test_a_bare_value_belongs_to_the_only_field():
    assert JsonFields(sensor_config("mqtt:x", ["t"])).values("23.5") == {"t": 23.5}
    assert JsonFields(sensor_config("mqtt:x", {"t": {"select": "$"}})).values("23.5") == {"t": 23.5}


@pytest.mark.parametrize("text", ["", "on", "{", '{"x": 1}', "[" * 100_000, "9" * 10_000, '{"a": 1'])
def test_what_has_no_field_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        JsonFields(sensor_config("mqtt:x", ["a", "b"])).values(text)


def test_a_bare_value_is_nobodys_where_there_are_several_fields():
    with pytest.raises(ValueError, match="none of the sensor's fields"):
        JsonFields(sensor_config("mqtt:x", ["a", "b"])).values("23.5")
