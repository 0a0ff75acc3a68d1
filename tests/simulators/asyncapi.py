"""docs/asyncapi.yaml as a judge: topic and payload -> fits, or a sentence that says where it does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.yaml"


class AsyncApi:
    """The channels of the document. ``base`` of each address is taken as one level, as it is by default."""

    def __init__(self) -> None:
        self._document: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
        self._channels = {
            name: (re.compile(self._pattern(channel)), *self._validator(channel))
            for name, channel in self._document["channels"].items()
        }

    def sent(self) -> set[str]:
        """The channels that a device publishes on."""
        operations = self._document["operations"].values()
        return {item["channel"]["$ref"].rsplit("/")[-1] for item in operations if item["action"] == "send"}

    def channel_of(self, topic: str) -> str:
        found = [name for name, (pattern, *_) in self._channels.items() if pattern.fullmatch(topic)]
        assert len(found) == 1, f"{topic} belongs to {found or 'no channel'}"
        return found[0]

    def check(self, topic: str, payload: bytes) -> None:
        """AssertionError where the payload is not what its channel says."""
        _, validator, is_json = self._channels[self.channel_of(topic)]
        message = json.loads(payload, parse_constant=_no_constant) if is_json else payload.decode()
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(message)]
        assert not problems, f"{topic}: {'; '.join(problems)}; in {message}"

    def _pattern(self, channel: dict[str, Any]) -> str:
        parameters = channel["parameters"]

        def group(match: re.Match[str]) -> str:
            allowed = parameters[match[1]].get("enum")
            return f"({'|'.join(allowed)})" if allowed else "[^/]+"

        return re.sub(r"\{(\w+)\}", group, channel["address"])

    def _validator(self, channel: dict[str, Any]) -> tuple[Draft202012Validator, bool]:
        (message,) = channel["messages"].values()
        message = self._follow(message)
        schema = {"components": self._document["components"], "allOf": [message["payload"]]}
        Draft202012Validator.check_schema(schema)
        return Draft202012Validator(schema), message.get("contentType") != "text/plain"

    def _follow(self, part: dict[str, Any]) -> dict[str, Any]:
        """The part itself, or what it refers to within the document."""
        while "$ref" in part:
            found: Any = self._document
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part


def _no_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")
