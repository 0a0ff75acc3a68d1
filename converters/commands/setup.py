"""``edge-convert setup``: make the environments that the frameworks need, or say which there are."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence

from converters.commands.common import add_json, parser, terminal
from converters.environments import ENVIRONMENTS, State, folder_of, gigabytes, set_up, state_of, variable_of
from converters.records import Environment
from edge_agent.errors import ConfigError

SCHEMA = "edge-agent/convert-setup/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    names: list[Environment] = list(dict.fromkeys(options.names))
    if not names and not options.check:
        raise ConfigError(f"name what to make: {', '.join(ENVIRONMENTS)}; --check says what there is")
    unknown = [name for name in names if name not in ENVIRONMENTS]
    if unknown:
        raise ConfigError(f"no environment {unknown[0]!r}; there are {', '.join(ENVIRONMENTS)}")
    made = {} if options.check else {name: _made(name, options.python) for name in names}
    states = [state_of(name) for name in names or ENVIRONMENTS]
    ok = all(state.ready for state in states)
    if options.json:
        shown = [{**_shown(state), **made.get(state.name, {})} for state in states]
        print(json.dumps({"schema": SCHEMA, "ok": ok, "environments": shown}))
    else:
        for state in states:
            print(f"{state.name:<7}{'ready' if state.ready else 'missing':<9}{state.detail}")
    return 0 if ok else 1


def _made(name: Environment, python: str | None) -> dict[str, float]:
    """Make it; what that took."""
    progress = terminal()
    started = time.monotonic()
    set_up(name, python=python, progress=progress)
    seconds = time.monotonic() - started
    if os.environ.get(variable_of(name)):
        progress.say(f"{name}: {variable_of(name)} names another Python, which is used as long as it is set")
    return {"seconds": round(seconds, 1), "disk_gb": round(gigabytes(folder_of(name)), 2)}


def _shown(state: State) -> dict[str, object]:
    return {
        "name": state.name,
        "ready": state.ready,
        "python": str(state.python) if state.python else None,
        "detail": state.detail,
        "packages": ENVIRONMENTS[state.name].pins,
    }


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("setup", "Make the environment for keras, torch or onnx, with the versions that work together.")
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_described()))
    arguments.add_argument(
        "--python", metavar="P", help="the Python to make it with (default: one that has the wheels)"
    )
    arguments.add_argument(
        "--check", action="store_true", help="make nothing: say which are ready; exit code 1: not all"
    )
    add_json(arguments)
    return arguments


def _described() -> list[str]:
    return [f"{name} ({packages.disk_gb:g} GB)" for name, packages in ENVIRONMENTS.items()]
