"""Programs that run in an environment of their own, each in a child process: standard library, numpy, one framework."""
