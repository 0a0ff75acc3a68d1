"""One file for each subcommand of ``edge-agent``; ``main(argv)`` returns the exit code."""
