"""What the commands ``edge-agent``, ``edge-convert`` and ``edge-fleet`` share: find the subcommand, import only that
one, turn errors into one line and an exit code."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence

import edge_agent
from edge_agent.errors import EdgeAgentError

USAGE_ERROR = 2


def run_program(
    name: str, package: str, commands: Mapping[str, str], argv: Sequence[str] | None, *, extra: str = ""
) -> int:
    """Run ``main`` of the module ``package.SUBCOMMAND``. ``commands``: subcommand -> what it does; ``extra`` names the
    extra of the distribution that holds its packages.

    Returns the exit code: 0 good, 1 a bad result, 2 usage or configuration, 3 a device is absent.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(name, package, commands, arguments, extra)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output went away, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the output itself can't be written: a full disk
        print(f"{name}: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(program: str, package: str, commands: Mapping[str, str], arguments: list[str], extra: str) -> int:
    name, *rest = arguments or [""]
    if name in ("-h", "--help", "--version"):
        print(f"{program} {edge_agent.__version__}" if name == "--version" else _help(program, commands))
        return 0
    if name not in commands:
        unknown = f"{program}: no command {name!r}\n" if name else ""
        print(f"{unknown}{_help(program, commands)}", file=sys.stderr)
        return USAGE_ERROR
    try:
        return int(importlib.import_module(f"{package}.{name}").main(rest))
    except EdgeAgentError as error:
        return _failed(program, name, rest, str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not extra or missing in (package.split(".", maxsplit=1)[0], "edge_agent"):
            raise
        return _failed(program, name, rest, f"{missing} is missing: pip install '.[{extra}]'", USAGE_ERROR)
    except KeyboardInterrupt:
        return 130


def _failed(program: str, name: str, rest: Sequence[str], error: str, code: int) -> int:
    print(f"{program} {name}: {error}", file=sys.stderr)
    if "--json" in rest:
        print(json.dumps({"schema": "edge-agent/error/1", "ok": False, "error": error, "exit_code": code}))
    return code


def _help(program: str, commands: Mapping[str, str]) -> str:
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in commands.items()]
    return "\n".join(
        [f"usage: {program} COMMAND [options]", "", *lines, "", f"{program} COMMAND --help explains each; --version"]
    )
