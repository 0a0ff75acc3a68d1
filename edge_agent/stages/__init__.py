"""The threads of the first journey. They know core, records and ports, never an adapter: agent.py gives them those."""
