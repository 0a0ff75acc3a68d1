"""Paths of files in a repository. They come from signed metadata and from strangers alike, and stay inside."""

from __future__ import annotations

from typing import Final

from edge_agent.errors import NotThereError

PATH_CHARS_MOST: Final = 1024


def inside(path: str) -> tuple[str, ...]:
    """The names of the path's levels. Raises NotThereError for one that could lead out of the repository, or that no
    file can have."""
    names = tuple(path.split("/"))
    if len(path) > PATH_CHARS_MOST or any(name in ("", ".", "..") or "\0" in name or "\\" in name for name in names):
        raise NotThereError(f"{path[:80]!r} is no path of a file in a repository")
    return names
