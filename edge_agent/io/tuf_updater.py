"""python-tuf's updater with four things that it lacks: files that survive a power cut, a clock that the caller gives,
a root that can't be hidden, and keys that count once. Its private names that are used here are held by tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signature
from tuf.api.exceptions import DownloadHTTPError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Root, T, Targets
from tuf.ngclient._internal.trusted_metadata_set import _load_from_metadata
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge_agent import limits
from edge_agent.errors import NotThereError
from edge_agent.io.durable import write_whole
from edge_agent.ports import Source

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"
_CONFIG: Final = UpdaterConfig(targets_max_length=limits.METADATA_BYTES_MOST)


class SourceFetcher(FetcherInterface):
    """The repository's small files by way of a Source, whose paths stand where the updater expects addresses."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Raises DownloadHTTPError where there is no such file, TransportError else."""
        try:
            return self._source.read(url, min(max_length, limits.METADATA_BYTES_MOST))
        except NotThereError as error:
            raise DownloadHTTPError(str(error), 404) from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter([self.download_bytes(url, limits.METADATA_BYTES_MOST)])


class DurableUpdater(Updater):
    """One for each check, as python-tuf wants it. ``wall_ns``: what expiry is judged by; ``least_root``: a repository
    that does not lead to this version of the root hides a revocation.

    Raises OSError (the disk), RepositoryError (metadata, the ``bootstrap`` root too), DownloadError, TransportError.
    """

    def __init__(self, folder: Path, source: Source, bootstrap: bytes, wall_ns: int, least_root: int) -> None:
        self._least_root = least_root
        super().__init__(str(folder), METADATA, fetcher=SourceFetcher(source), config=_CONFIG, bootstrap=bootstrap)
        self._trusted_set._load_data = _load_and_count_keys
        self._trusted_set.reference_time = datetime.fromtimestamp(wall_ns / 1e9, timezone.utc)

    @property
    def root_version(self) -> int:
        return self._trusted_set.root.version

    @property
    def consistent_snapshot(self) -> bool:
        """Whether targets carry their hash in their file's name."""
        return bool(self._trusted_set.root.consistent_snapshot)

    def _load_root(self) -> None:
        super()._load_root()
        if self.root_version < self._least_root:
            raise RepositoryError(
                f"the repository leads to version {self.root_version} of the root; {self._least_root} was seen"
            )

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_whole(Path(filename), data)


def _load_and_count_keys(
    role: type[T], data: bytes, delegator: Root | Targets | None = None, role_name: str | None = None
) -> tuple[T, bytes, dict[str, Signature]]:
    """As python-tuf's own, which counts key ids: one key under two ids would reach a threshold of two by itself."""
    signed, payload, signatures = _load_from_metadata(role, data, delegator, role_name)
    judges = [(delegator, role_name or role.type), (signed, Root.type)]
    for judge, name in judges if isinstance(signed, Root) else judges[:1]:
        if isinstance(judge, Root | Targets):
            result = judge.get_verification_result(name, payload, signatures)
            keys = {json.dumps(key.keyval, sort_keys=True) for key in result.signed.values()}
            if len(keys) < result.threshold:
                raise UnsignedMetadataError(f"{name} was signed by {len(keys)}/{result.threshold} different keys")
    return signed, payload, signatures
