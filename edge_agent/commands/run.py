"""``edge-agent run``: the daemon in the foreground, under systemd or in a terminal."""

from __future__ import annotations

import faulthandler
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge_agent.commands.common import add_config, parser
from edge_agent.errors import EdgeAgentError
from edge_agent.io.journal import STDERR, JournalHandler, is_journal
from edge_agent.io.systemd import Notifier
from edge_agent.loading import load_configuration
from edge_agent.updating.start import UpdateStart

log = logging.getLogger("edge_agent")


def main(argv: Sequence[str]) -> int:
    arguments = parser("run", "Run the daemon in the foreground until SIGTERM or Ctrl-C.")
    add_config(arguments)
    options = arguments.parse_args(argv)
    faulthandler.enable()  # the watchdog's SIGABRT, or a library's SIGSEGV: says where each thread stood
    start_logging("info")
    notifier = Notifier()
    try:
        return _run(options.config, notifier)
    except EdgeAgentError as error:
        notifier.status(str(error))
        if not is_journal(STDERR):
            raise
        log.critical("%s", error, extra={"event": "start_failed"})
        return error.exit_code


def start_logging(level: str) -> None:
    """To the journal where standard error is connected to it, else to standard error for a person."""
    if is_journal(STDERR):
        handler: logging.Handler = JournalHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _run(config: Path, notifier: Notifier) -> int:
    """Raises EdgeAgentError: what keeps the daemon from starting."""
    notifier.status("reading the configuration")
    loaded = load_configuration(config)
    logging.getLogger().setLevel(loaded.config.log.level.upper())
    for warning in loaded.warnings:
        log.warning("%s", warning)
    start = UpdateStart(loaded)
    if start.wait_s:
        text = f"the last starts did not last: waiting {start.wait_s:g} s"
        log.warning("%s", text, extra={"event": "starts_unhealthy"})
        notifier.status(text)
        time.sleep(start.wait_s)
    notifier.status("reading models")
    loading = [start.begin(pipeline.model) for pipeline in loaded.config.pipeline]
    from edge_agent.agent import Agent  # OpenCV and paho: imported while the children try the back-ends

    return Agent(loaded, start, loading).run()
