"""One TOML for each board: what is known of it, merged under the configuration. Data only."""
