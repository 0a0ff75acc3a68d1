"""``edge-agent models``: which models this device has, and what the operator at the device may do about them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.commands.common import add_config, add_json, look_at_service, parser
from edge_agent.commands.models_listed import as_json, as_text
from edge_agent.config.load import LoadedConfig
from edge_agent.core.wire import printable
from edge_agent.errors import ConfigError
from edge_agent.io.model_store import ModelStore, update_folder
from edge_agent.io.update_requests import Request
from edge_agent.loading import load_configuration

LIST_SCHEMA = "edge-agent/models/1"
ASKED_SCHEMA = "edge-agent/models-asked/1"
VERIFIED_SCHEMA = "edge-agent/models-verified/1"
DOES = """\
  list            what runs, what ran before, what is under way, how the last update ended (the default)
  pin NAME        keep what runs, whatever is rolled out
  unpin NAME      follow the rollouts again
  rollback NAME   go back to the model before, or end its trial; its rollout does not bring it again
  verify          examine all models that this device has, as an update would be
  verify FILE     examine a .tflite file as an update would be
  install FOLDER  take what a repository in a folder (a USB stick) has for this device, signed as ever

With a running daemon pin, unpin, rollback and install are its work; it is asked, and its answer printed.
"""


def main(argv: Sequence[str]) -> int:
    """0: done, all good; 1: refused, or a model is bad."""
    arguments = parser("models", "Models over the air, at the device itself.")
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.epilog = DOES
    words = ("list", "pin", "unpin", "rollback", "verify", "install")
    arguments.add_argument("what", nargs="?", default="list", choices=words, metavar="|".join(words))
    arguments.add_argument("of", nargs="?", metavar="NAME|FILE|FOLDER")
    arguments.add_argument("--model", metavar="NAME", help="verify FILE: for this [model.NAME]")
    add_config(arguments)
    add_json(arguments)
    options = arguments.parse_args(argv)
    wants, takes = options.what in ("pin", "unpin", "rollback", "install"), options.what != "list"
    if (wants and options.of is None) or (not takes and options.of is not None):
        arguments.error(
            f"{options.what} {'needs' if wants else 'takes no'} {'FOLDER' if options.what == 'install' else 'NAME'}"
        )
    look_at_service(options.config)
    loaded = load_configuration(options.config)
    store = ModelStore(_folder(loaded), loaded.config.update.disk)
    if options.what == "list":
        return _list(loaded, store, options.json)
    if options.what == "verify":
        return _verify(loaded, store, options)
    return _ask(loaded, store, options)


def _folder(loaded: LoadedConfig) -> Path:
    return update_folder(loaded.config.update, loaded.folder, loaded.config.device.id or "")


def _list(loaded: LoadedConfig, store: ModelStore, machine: bool) -> int:
    state = store.load()
    names = tuple(loaded.config.model)
    if machine:
        listed = as_json(store.folder, names, state)
        print(json.dumps({"schema": LIST_SCHEMA, **listed, "damage": store.damage}))
    else:
        print(as_text(store.folder, names, state))
    if store.damage is not None:
        print(f"edge-agent models: {store.damage}", file=sys.stderr)
    return 0


def _verify(loaded: LoadedConfig, store: ModelStore, options: argparse.Namespace) -> int:
    from edge_agent.commands.models_verified import verify_all, verify_file  # slow to import, as what it examines

    alone = options.of is not None
    found = [verify_file(loaded, Path(options.of), options.model)] if alone else verify_all(loaded, store)
    good = all(model.ok for model in found)
    if options.json:
        print(json.dumps({"schema": VERIFIED_SCHEMA, "ok": good, "models": [model.as_json() for model in found]}))
        return 0 if good else 1
    for model in found:
        print(model.as_text(), file=sys.stdout if model.ok else sys.stderr)
    return 0 if good else 1


def _ask(loaded: LoadedConfig, store: ModelStore, options: argparse.Namespace) -> int:
    if options.what == "install":
        request = Request(what="install", folder=str(Path(options.of).absolute()))
    else:
        if options.of not in loaded.config.model:
            known = ", ".join(loaded.config.model) or "none"
            raise ConfigError(f"no [model.{options.of}] in {loaded.path}; it has: {known}")
        request = Request(what=options.what, model=options.of)
    from edge_agent.commands.models_asked import ask  # slow to import: the signatures' library

    asked = ask(loaded, store, request)
    if options.json:
        print(json.dumps({"schema": ASKED_SCHEMA, "ok": asked.ok, "text": asked.text, "by": asked.by}))
    else:
        print(printable(asked.text), file=sys.stdout if asked.ok else sys.stderr)
    return 0 if asked.ok else 1
