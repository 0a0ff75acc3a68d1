"""The other end of the fleet: what runs on the workstation and in the cloud. ``edge-fleet``."""
