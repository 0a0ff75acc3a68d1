"""The command ``edge-agent``: finds the subcommand, imports only that one, turns errors into one line and a code."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence

import edge_agent
from edge_agent.errors import EdgeAgentError

COMMANDS = {
    "run": "run the daemon in the foreground",
    "check": "validate the configuration; --devices also opens each device once",
    "doctor": "say what this machine has and what would be used, and how to mend what is missing",
    "predict": "run one sample through a model",
    "bench": "compare the bare interpreter with the whole path",
    "watch": "subscribe to the predictions and print them",
}
USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 good, 1 a bad result, 2 usage or configuration, 3 a device is absent."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output went away, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the output itself can't be written: a full disk
        print(f"edge-agent: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    name, *rest = arguments or [""]
    if name in ("-h", "--help", "--version"):
        print(f"edge-agent {edge_agent.__version__}" if name == "--version" else _help())
        return 0
    if name not in COMMANDS:
        unknown = f"edge-agent: no command {name!r}\n" if name else ""
        print(f"{unknown}{_help()}", file=sys.stderr)
        return USAGE_ERROR
    return _run(name, rest)


def _run(name: str, rest: Sequence[str]) -> int:
    try:
        return int(importlib.import_module(f"edge_agent.commands.{name}").main(rest))
    except EdgeAgentError as error:
        print(f"edge-agent {name}: {error}", file=sys.stderr)
        if "--json" in rest:
            answer = {"schema": "edge-agent/error/1", "ok": False, "error": str(error), "exit_code": error.exit_code}
            print(json.dumps(answer))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _help() -> str:
    lines = [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: edge-agent COMMAND [options]", "", *lines, "", "edge-agent COMMAND --help explains each; --version"]
    )


if __name__ == "__main__":
    sys.exit(main())
