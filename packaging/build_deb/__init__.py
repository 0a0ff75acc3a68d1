"""Builds the Debian package of edge-agent: ``script/package``. docs/install.md says what is in it and why."""
