"""How every benchmark prints: a table for a person, one JSON object for a program."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from statistics import median
from typing import Any


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"rounds of every variant (default {repeats})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def machine() -> dict[str, Any]:
    import os

    return {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}


def show(result: dict[str, Any], columns: Sequence[str], rows: dict[str, Sequence[Any]], as_json: bool) -> None:
    """``rows``: name -> one value for each column. ``result`` holds what the JSON says besides."""
    if as_json:
        table = {name: dict(zip(columns, values, strict=True)) for name, values in rows.items()}
        print(json.dumps({**machine(), **result, "variants": table}))
        return
    width = max(len(name) for name in rows) + 2
    print(", ".join(f"{key} {value}" for key, value in {**machine(), **result}.items() if not isinstance(value, dict)))
    print(" " * width + "".join(f"{column:>16}" for column in columns))
    for name, values in rows.items():
        print(f"{name:<{width}}" + "".join(f"{_cell(value):>16}" for value in values))


def judge(name: str, value: float, wanted: str, good: bool) -> str:
    """One line that says whether a goal was reached."""
    return f"{'reached' if good else 'MISSED ':<8} {name}: {value:.3f} (wanted {wanted})"


def middle(values: Sequence[float]) -> float:
    return median(values)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
