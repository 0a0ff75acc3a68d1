"""What the subcommands that change a repository share: its options, how it is opened, what they all warn of."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from fleet.commands.common import add_json
from fleet.repository import Repository, expiry_sentence, open_repository


def add_repository(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("repository", type=Path, help="folder that edge-fleet init made")
    arguments.add_argument(
        "--keys",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="where further private keys are, such as a stick; may be given again",
    )
    add_json(arguments)


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Repository]:
    """For a change. Afterwards it says which signatures expire soon."""
    with open_repository(options.repository, datetime.now(timezone.utc), options.keys) as repository:
        yield repository
        warn_of_expiry(repository)


def warn_of_expiry(repository: Repository) -> None:
    if sentence := expiry_sentence(repository.folder, repository.expiries()):
        print(f"warning: {sentence}", file=sys.stderr)


def answer(options: argparse.Namespace, text: str, **members: object) -> None:
    """Text for a person, or with ``--json`` one object."""
    if options.json:
        print(json.dumps({"schema": f"edge-fleet/{options.command}/1", "ok": True, **members}))
    else:
        print(text)
