"""Commands over MQTT: what is understood, what is refused and with which words."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.schema import PublishConfig
from edge_agent.config.units import Rate
from edge_agent.core.settings import PARSERS, jsonable, parse_command
from edge_agent.core.wire import response_body, setting_body


@pytest.mark.parametrize(
    ("setting", "payload", "value"),
    [
        ("rate", b"5/s", Rate(5)),
        ("rate", b'"0.5/s"', Rate(0.5)),
        ("rate", b"max", Rate("inf")),
        ("rate", b'{"value": "6/m"}', Rate(0.1)),
        ("publish", b"change", PublishConfig(mode="change")),
        ("publish", b'{"mode": "change", "deadband": 0.5}', PublishConfig(mode="change", deadband=0.5)),
        ("threshold", b"0.25", 0.25),
        ("threshold", b'"0.25"', 0.25),
        ("paused", b"true", True),
        ("paused", b"off", False),
    ],
)
def test_a_setting_is_text_or_json_or_an_object_with_a_value(setting: str, payload: bytes, value: object) -> None:
    assert PARSERS[setting](parse_command(payload).value) == value


@pytest.mark.parametrize(
    ("setting", "payload", "words"),
    [
        ("rate", b"fast", "10/s"),
        ("rate", b"0/s", "10/s"),
        ("rate", b"5", "10/s"),
        ("rate", b"0." + b"0" * 310 + b"1/s", "one frame a day"),
        ("publish", b'{"mode": "interval", "interval": "0s"}', "1 ms to 1 day"),
        ("publish", b"sometimes", "change"),
        ("publish", b'{"mode": "every", "x": 1}', "unknown field `x`"),
        ("threshold", b"1.5", "0 to 1"),
        ("threshold", b"true", "0 to 1"),
        ("threshold", b"nan", "0 to 1"),
        ("paused", b"1", "true or false"),
        ("paused", b"", "true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(setting: str, payload: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PARSERS[setting](parse_command(payload).value)


def test_expiry_and_transaction_are_read_from_the_object() -> None:
    command = parse_command(b'{"value": "1/s", "expires": "1970-01-01T00:00:01Z", "transaction": 7}')
    assert (command.value, command.expires_ns, command.transaction) == ("1/s", 10**9, 7)


@given(st.binary(max_size=200), st.sampled_from(sorted(PARSERS)))
def test_random_bytes_are_a_value_or_a_value_error_never_anything_else(payload: bytes, setting: str) -> None:
    with contextlib.suppress(ValueError):
        jsonable(PARSERS[setting](parse_command(payload).value))


@pytest.mark.parametrize("payload", [b'"every\\n\\u001b[2J%s"', b'{"mode": "every", "\\n\\u001b[2J%s": 1}'])
def test_a_reason_is_one_short_line_whatever_was_sent(payload: bytes) -> None:
    with pytest.raises(ValueError, match="Expected") as refused:
        PARSERS["publish"](parse_command(payload % (b"x" * 4000)).value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


WORDS = ("every", "change", "interval", "max", "9/s", "0.0000001/h", "5s", "1e5ms", "NaN", "-Infinity", "0001-01-01")
KEYS = st.sampled_from(["value", "expires", "transaction", "mode", "interval", "deadband"]) | st.text(max_size=5)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**320) | st.floats() | st.datetimes().map(str)
)
ANYTHING = st.recursive(
    LEAVES | st.text(max_size=20) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(ANYTHING, st.booleans(), st.sampled_from(sorted(PARSERS)))
def test_json_of_any_shape_is_taken_or_refused_and_can_be_answered(value: object, ascii: bool, setting: str) -> None:
    transaction = None
    try:
        # surrogates and NaN too: what other programs write as JSON though it is none
        command = parse_command(json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))
        transaction = command.transaction
        setting_body("inspect", setting, jsonable(PARSERS[setting](command.value)))
    except ValueError as error:
        assert len(str(error)) < 400
        assert str(error).isprintable()
    json.loads(response_body(transaction, None, "refused"))


@pytest.mark.parametrize("depth", [65, 900, 4000])
def test_nesting_that_an_answer_could_not_repeat_is_a_value_error(depth: int) -> None:
    with pytest.raises(ValueError, match="at most 64 brackets"):
        parse_command(b'{"value": true, "transaction": ' + b"[" * depth + b"]" * depth + b"}")
