"""What was learnt of drift, in files of its folder: whole after a power cut, and never in the way of the daemon."""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import StorageError
from edge_agent.io.durable import make_folder, write_whole

BYTES_MOST = 16 * 2**20  # ours have about one MB; what is larger is none of ours
_ASIDE = ".damaged"


class DriftFolder:
    """Implements ``ports.DriftStore`` with a file for each name. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                content = file.read(BYTES_MOST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        if len(content) > BYTES_MOST:
            raise StorageError(f"{path}: larger than {BYTES_MOST} bytes, so not ours; move it away")
        return content

    def save(self, name: str, content: bytes) -> None:
        try:
            make_folder(self._folder)
            write_whole(self._folder / name, content)
        except OSError as error:
            raise StorageError(f"{self._folder / name}: {error.strerror}") from None

    def set_aside(self, name: str) -> str:
        path = self._folder / name
        aside = path.with_name(name + _ASIDE)
        try:
            path.replace(aside)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        return str(aside)
