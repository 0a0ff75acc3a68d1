"""Private keys as files: ``online/`` and ``offline/`` beside the repository, and folders on sticks.

A key is known by its id (a hash of its public half); its name, as in "root-2", is for people and stands in the signed
metadata too, so that a message can say which file is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, Signer

from edge_agent.errors import ConfigError
from fleet import files

OFFLINE, ONLINE = "offline", "online"  # folders of private keys
NAME_FIELD = "x-edge-fleet-name"
RETIRED = ".retired"
KEY_FILE_BYTES_MOST = 16 * 1024


class KeyRing:
    """All private keys at hand. ``private``: the folder beside the repository; ``sticks``: further ones."""

    def __init__(self, private: Path, sticks: Sequence[Path] = ()) -> None:
        """Raises ConfigError: a folder is not there, a file is no key."""
        self._private = private
        self._found: dict[str, tuple[Path, CryptoSigner]] = {}
        for stick in sticks:
            if not stick.is_dir():
                raise ConfigError(f"--keys {stick}: no such folder; attach the medium or correct the path")
        own = (private / OFFLINE, private / ONLINE)  # not the folder itself: TLS files of the broker may lie there
        for folder in (*own, *(stick / below for stick in sticks for below in ("", OFFLINE, ONLINE))):
            for path in sorted(folder.glob("*.pem")):
                signer = _load(path)
                self._found.setdefault(signer.public_key.keyid, (path, signer))

    def signers(self, keyids: Iterable[str]) -> list[Signer]:
        """Those of the keys that are at hand."""
        return [self._found[keyid][1] for keyid in keyids if keyid in self._found]

    def path(self, keyid: str) -> Path | None:
        return self._found[keyid][0] if keyid in self._found else None

    def names(self) -> set[str]:
        return {path.stem for path, _ in self._found.values()}

    def create(self, name: str, folder: Path) -> Signer:
        """A new key, on the disk as ``NAME.pem``. Raises StorageError, and ConfigError where there is such a file."""
        path = folder / f"{name}.pem"
        if path.exists():
            raise ConfigError(f"{path} is there already, and private keys are never written over: move it away")
        signer = CryptoSigner.generate_ed25519()
        signer.public_key.unrecognized_fields[NAME_FIELD] = name
        files.make_folder(self._private, 0o700)
        files.make_folder(folder, 0o700)
        files.write_whole(path, signer.private_bytes, files.PRIVATE)
        self._found[signer.public_key.keyid] = (path, signer)
        return signer

    def discard(self, signers: Iterable[Signer]) -> None:
        """New keys that came into no metadata."""
        for signer in signers:
            path, _ = self._found.pop(signer.public_key.keyid)
            path.unlink(missing_ok=True)

    def retire(self, keyid: str) -> Path | None:
        """Set a key's file aside, so that it signs nothing any more. Returns the file where that was not possible: a
        medium that is read-only."""
        if keyid not in self._found:
            return None
        path, _ = self._found.pop(keyid)
        try:
            path.rename(path.with_name(path.name + RETIRED))
        except OSError:
            return path
        return None


def name_of(key: Key) -> str:
    """For people: the name that it was made with, or the start of its id."""
    return str(key.unrecognized_fields.get(NAME_FIELD) or key.keyid[:12])


def next_names(role: str, count: int, taken: Iterable[str]) -> list[str]:
    """ "root-4", "root-5" where root-3 was the last one."""
    numbers = [int(found[1]) for name in taken if (found := re.fullmatch(rf"{role}-(\d+)", name))]
    first = max(numbers, default=0) + 1
    return [f"{role}-{number}" for number in range(first, first + count)]


def _load(path: Path) -> CryptoSigner:
    try:
        with path.open("rb") as file:
            content = file.read(KEY_FILE_BYTES_MOST)
        return CryptoSigner(load_pem_private_key(content, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no private key that can be used (PEM without a password): {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
