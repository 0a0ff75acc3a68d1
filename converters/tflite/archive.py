"""The files behind the flatbuffer: a zip, stored and with fixed dates, so the same parts give the same bytes.

The model's own bytes stay as they were, and a TFLite program reads no further than them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from edge_agent.io.model_file import seal

FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def bare_model(content: bytes) -> bytes:
    """The bytes before the first appended file; all of them where nothing is appended."""
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return content
    with zipfile.ZipFile(stream) as archive:
        starts = [entry.header_offset for entry in archive.infolist()]
        return content[: min(starts, default=archive.start_dir)]


def with_members(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """The bare model with the named files behind it, in the given order, and a digest of it all at the end."""
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
        archive.comment = seal(b"")
    whole = stream.getvalue()[: -len(archive.comment)]
    return whole + seal(whole)
