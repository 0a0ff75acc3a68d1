"""``edge-fleet init``: keys and a repository that devices trust."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from fleet.commands.common import add_json, parser
from fleet.commands.repository_options import answer
from fleet.keys import OFFLINE
from fleet.new_repository import PRESETS, Preset, create
from fleet.settings import private_folder


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    folder: Path = options.repository
    preset = PRESETS[options.preset]
    create(folder, preset, datetime.now(timezone.utc))
    private = private_folder(folder)
    root = folder / "metadata" / "1.root.json"
    offline = sorted(path.name for path in (private / OFFLINE).glob("*.pem"))
    answer(
        options,
        _text(options, private, root, preset, offline),
        repository=str(folder),
        preset=options.preset,
        private=str(private),
        root=str(root),
        offline=offline,
    )
    return 0


def _text(options: argparse.Namespace, private: Path, root: Path, preset: Preset, offline: Sequence[str]) -> str:
    url = options.url or "https://…"
    where = "" if options.url else "  # wherever that folder is served; or the folder itself, or mqtt:"
    text = (
        f"{options.repository}: public, for any static web server\n"
        f"{private}: private keys ({preset.says}) and fleet.toml; never served, kept in a backup\n\n"
        "On each device:\n"
        f"  copy {root} to update-root.json beside its agent.toml\n"
        f'  [update]\n  repository = "{url}"{where}\n'
    )
    if offline:
        text += (
            f"\nThese keys belong offline, on media that are attached to sign. Move them out of {private / OFFLINE},\n"
            f"the root keys each to a medium and a person of its own, and give --keys FOLDER from then on:\n"
            f"  {', '.join(offline)}\n"
            "Whoever loses too many root keys to sign must give every device a new root by hand.\n"
            f"The online keys sign anew by themselves, each day from cron:\n"
            f"  edge-fleet keys refresh {options.repository} snapshot timestamp\n"
        )
    return f"{text}\nNext: edge-fleet publish {options.repository} model.tflite --name NAME --version 1.0.0"


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "init",
        "Make keys and a repository of signed models, and say what devices need of it. "
        + "; ".join(f"preset {name}: {preset.says}" for name, preset in PRESETS.items())
        + ".",
    )
    arguments.set_defaults(command="init")
    arguments.add_argument("repository", type=Path, help="folder to make; its private keys go to FOLDER.private")
    arguments.add_argument("--preset", choices=list(PRESETS), default="bench", help="default bench")
    arguments.add_argument("--url", metavar="URL", help="where devices will find it, for the text that is printed")
    add_json(arguments)
    return arguments
