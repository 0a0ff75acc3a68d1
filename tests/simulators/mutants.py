"""Damaged copies of a model, of every kind that storage, transfer and tools make; the same seed makes the same ones."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator

from edge_agent.io.golden_file import GOLDEN_MEMBER

CARD_MEMBER = "edge-agent/card.json"
KINDS = ("graph", "weights", "card", "golden", "zip", "anywhere", "cut", "zeroed", "moved")
GRAPH_BYTES = 28_000


def mutants(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(kind, copy), the kinds in turn. Each differs from the original."""
    made = 0
    while made < count:
        kind = KINDS[made % len(KINDS)]
        copy = mutant(content, kind, random.Random(f"{seed}-{made}"))
        if copy == content:
            seed += count
            continue
        made += 1
        yield kind, copy


def mutant(content: bytes, kind: str, chance: random.Random) -> bytes:
    start, end = _region(content, kind)
    if kind == "cut":
        return content[: chance.randrange(1, len(content))]
    if kind == "zeroed":  # a block of the disk
        at = chance.randrange(0, len(content), 4096)
        return content[:at] + bytes(min(4096, len(content) - at)) + content[at + 4096 :]
    if kind == "moved":
        at, source = (chance.randrange(0, len(content) - 512) for _ in range(2))
        return content[:at] + content[source : source + 512] + content[at + 512 :]
    copy = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        copy[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return bytes(copy)


def _region(content: bytes, kind: str) -> tuple[int, int]:
    """Where the kind hits. The converters' files have their weights first and the graph behind them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        starts = {entry.filename: entry.header_offset for entry in archive.infolist()}
        directory = archive.start_dir
    bare = min(starts.values())
    ends = [*sorted(starts.values()), directory]
    regions = {"graph": (bare - GRAPH_BYTES, bare), "weights": (0, bare), "zip": (directory, len(content))}
    for kind_of, name in (("card", CARD_MEMBER), ("golden", GOLDEN_MEMBER)):
        regions[kind_of] = starts[name], next(end for end in ends if end > starts[name])
    return regions.get(kind, (0, len(content)))
