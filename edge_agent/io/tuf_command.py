"""``python -m edge_agent.io.tuf_client``: the client by itself, with the interface of the public TUF conformance suite,
so that anybody can hold it against that suite, and look at a repository through this device's eyes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from edge_agent.errors import EdgeAgentError, NotThereError
from edge_agent.io.durable import make_folder, write_whole
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.io.tuf_updater import METADATA, TARGETS
from edge_agent.ports import Source

COMMANDS: Final = ("init", "refresh", "download")
ROOT: Final = "initial-root"  # no .json: those are what is trusted now


class TwoAddresses:
    """A Source whose metadata and targets are at different addresses."""

    def __init__(self, metadata: str, targets: str | None) -> None:
        self._sources: dict[str, Source] = {METADATA: HttpSource(metadata, encoded=True)}
        if targets is not None:
            self._sources[TARGETS] = HttpSource(targets)

    def read(self, path: str, most: int) -> bytes:
        source, path = self._find(path)
        return source.read(path, most)

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        source, path = self._find(path)
        source.download(path, part, length, progress)

    def stop(self) -> None:
        for source in self._sources.values():
            source.stop()

    def close(self) -> None:
        for source in self._sources.values():
            source.close()

    def _find(self, path: str) -> tuple[Source, str]:
        for prefix, source in self._sources.items():
            if path.startswith(prefix):
                return source, path.removeprefix(prefix)
        raise NotThereError(f"{path}: no address was given for it")


def main(argv: Sequence[str]) -> int:
    """0: done, 1: refused, with a line that says why; 2: usage."""
    arguments = _arguments(argv)
    try:
        if arguments.command == "init":
            _init(arguments.metadata_dir, arguments.root_file)
        else:
            _update(arguments)
    except (EdgeAgentError, OSError) as error:
        print(f"tuf_client {arguments.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edge_agent.io.tuf_client", description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True, metavar="D", help="what is trusted, as NAME.json")
    parser.add_argument("--metadata-url", metavar="U", help="of the repository's metadata")
    parser.add_argument("--target-name", nargs="+", action="extend", default=[], metavar="T", help="also several times")
    parser.add_argument("--target-base-url", metavar="B", help="of the repository's targets")
    parser.add_argument("--target-dir", type=Path, metavar="O", help="where targets go")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="init ROOT_FILE | refresh | download")
    arguments = parser.parse_args(argv)
    if not arguments.words and arguments.target_name:
        # the command right behind the last target's name was taken for one more name
        arguments.words = [arguments.target_name.pop()]
    arguments.command, *files = arguments.words or [""]
    if arguments.command not in COMMANDS or len(files) != (arguments.command == "init"):
        parser.error("expected init ROOT_FILE, refresh or download")
    arguments.root_file = Path(*files)
    if arguments.command != "init" and arguments.metadata_url is None:
        parser.error(f"{arguments.command} wants --metadata-url")
    wanted = (arguments.target_name, arguments.target_base_url, arguments.target_dir)
    if arguments.command == "download" and not all(wanted):
        parser.error("download wants --target-name, --target-base-url and --target-dir")
    return arguments


def _init(folder: Path, root_file: Path) -> None:
    root = root_file.read_bytes()
    make_folder(folder)
    write_whole(folder / ROOT, root)
    write_whole(folder / "root.json", root)


def _update(arguments: argparse.Namespace) -> None:
    """Raises UpdateError, ConfigError, OSError; the targets before the one that failed are there."""
    folder = arguments.metadata_dir
    source = TwoAddresses(arguments.metadata_url, arguments.target_base_url)
    try:
        repository = TrustedRepository(folder, (folder / ROOT).read_bytes(), source, time.time_ns())
        repository.refresh()
        if arguments.command == "download":
            for name in arguments.target_name:
                _download(repository, name, arguments.target_dir)
    finally:
        source.close()


def _download(repository: TrustedRepository, name: str, folder: Path) -> None:
    target = repository.target(name)
    if target is None:
        raise NotThereError(f"{name}: nobody who may has signed it")
    file = folder / quote(name, "")
    if _is_there(target, file):
        return
    make_folder(folder)
    part = folder / f".{next(iter(target.hashes.values()))}.part"
    repository.fetch(target, part, lambda _: None)
    part.replace(file)


def _is_there(target: TargetFile, file: Path) -> bool:
    try:
        with file.open("rb") as content:
            target.verify_length_and_hashes(content)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True
