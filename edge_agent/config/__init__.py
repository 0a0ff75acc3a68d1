"""The configuration: device profile under the file agent.toml, as frozen structs."""
