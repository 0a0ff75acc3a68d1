"""One module for each subcommand of ``edge-fleet``: ``main(argv) -> exit code``."""
