"""``edge-agent run``: the daemon in the foreground, under systemd or in a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence

from edge_agent.commands.common import add_config, parser
from edge_agent.loading import load_configuration
from edge_agent.updating.start import UpdateStart

# journald reads the priority from this prefix (sd-daemon(3))
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JournalFormatter(logging.Formatter):
    """One line for each record, with the priority in front; the journal adds time and name."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def main(argv: Sequence[str]) -> int:
    arguments = parser("run", "Run the daemon in the foreground until SIGTERM or Ctrl-C.")
    add_config(arguments)
    options = arguments.parse_args(argv)
    loaded = load_configuration(options.config)
    start_logging(loaded.config.log.level)
    for warning in loaded.warnings:
        logging.getLogger("edge_agent").warning("%s", warning)
    start = UpdateStart(loaded)
    if start.wait_s:
        logging.getLogger("edge_agent").warning("the last starts did not last: waiting %g s", start.wait_s)
        time.sleep(start.wait_s)
    loading = [start.begin(pipeline.model) for pipeline in loaded.config.pipeline]
    from edge_agent.agent import Agent  # OpenCV and paho: imported while the children try the back-ends

    return Agent(loaded, start, loading).run()


def start_logging(level: str) -> None:
    """To standard error: for the journal where that is what it is connected to, else for a person."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
