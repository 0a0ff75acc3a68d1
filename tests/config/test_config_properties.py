"""Whatever an editor's slip or a program makes of a good file: it is a configuration or one ConfigError."""

import copy
import re
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import inspect

from edge_agent.config.convert import parse_toml
from edge_agent.config.explain import _WORDS, PATTERN_WORDS
from edge_agent.config.load import build_config
from edge_agent.config.profile import Profile, parse_profile
from edge_agent.config.schema import Config
from edge_agent.errors import ConfigError
from tests.config.configurations import COMPLETE, PROFILE, build

TREE = parse_toml(COMPLETE, "agent.toml")
ONE_LINE = re.compile(r"agent\.toml: [^\n\r\x00]+")

scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.datetimes(),
    st.sampled_from(["max", "10/s", "0s", "5s", "1B", "file:x", "csv:y", "a.b", "front", "", "://u:p@", "[", "(?P<v>"]),
    st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,3})?[a-zA-Z/]{1,3}", fullmatch=True),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


def places(tree: Any, path=()):
    """The path of everything in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutate(tree: Any, path: tuple[Any, ...], change: str, value: Any, word: str) -> None:
    for key in path[:-1]:
        tree = tree[key]
    if isinstance(tree, dict) != isinstance(path[-1], str):
        return  # an earlier change took this place away
    if change == "replace":
        tree[path[-1]] = value
    elif change == "remove":
        del tree[path[-1]]
    elif isinstance(tree, dict):
        tree[word] = tree.pop(path[-1]) if change == "rename" else value
    else:
        tree.append(copy.deepcopy(tree[path[-1]]))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(places(TREE))),
            st.sampled_from(["replace", "remove", "rename", "add"]),
            values,
            st.one_of(st.text(max_size=8), st.sampled_from(["loop", "pace", "timeline", "tls", "images", "password"])),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_change_of_the_tree_is_accepted_or_one_line_of_configuration_error(changes):
    tree = copy.deepcopy(TREE)
    for path, change, value, word in changes:
        try:
            mutate(tree, path, change, value, word)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took this place away
    try:
        build_config(tree, "agent.toml", lambda name: parse_profile(PROFILE, name, "board.toml"), "host")
    except ConfigError as error:
        assert ONE_LINE.fullmatch(str(error))


@given(st.integers(0, len(COMPLETE)), st.integers(0, 40), st.text(max_size=8))
@example(0, 0, "\ufeff")
@example(5, 0, "\x00")
def test_any_change_of_the_text_is_accepted_or_one_line_of_configuration_error(start, length, inserted):
    text = COMPLETE[:start] + inserted + COMPLETE[start + length :]
    try:
        build(text)
    except ConfigError as error:
        assert ONE_LINE.fullmatch(str(error))


def types_of(info: inspect.Type):
    yield info
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            yield from types_of(field.type)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            yield from types_of(one)
    elif isinstance(info, inspect.DictType):
        yield from types_of(info.value_type)
    elif isinstance(info, inspect.VarTupleType):
        yield from types_of(info.item_type)
    elif isinstance(info, inspect.TupleType):
        for one in info.item_types:
            yield from types_of(one)


def test_every_type_and_pattern_of_the_schemas_has_words():
    kinds = [info for kind in (Config, Profile) for info in types_of(msgspec.inspect.type_info(kind))]
    assert {type(info) for info in kinds} - {inspect.NoneType} <= _WORDS.keys()
    assert {
        info.pattern for info in kinds if isinstance(info, inspect.StrType) and info.pattern
    } == PATTERN_WORDS.keys()
