"""Cameras: one file per kind of source, chosen by the scheme of its address (``registry``)."""

from edge_agent.io.cameras.registry import MediaCamera, create_camera, is_live, redact

__all__ = ["MediaCamera", "create_camera", "is_live", "redact"]
