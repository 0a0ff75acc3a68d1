"""A folder that is laid out as a repository of models, with nothing signed in it: for those who only carry bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

MODEL: Final = "targets/models/hall/0123abcd.2.1.0.tflite"
CONTENT: Final = random.Random(5).randbytes(5 * 2**16 + 1234)
"""Of MODEL: no two places alike, and no whole number of chunks."""
TIMESTAMP: Final = b'{"signed": {}}'


def served_folder(folder: Path) -> Path:
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "timestamp.json").write_bytes(TIMESTAMP)
    (folder / "metadata" / "1.models.json").write_bytes(b"{}" * 50_000)
    model = folder / MODEL
    model.parent.mkdir(parents=True)
    model.write_bytes(CONTENT)
    (folder / "secret.key").write_text("nobody's")
    return folder
