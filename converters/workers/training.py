"""The worker of the techniques that train."""

from __future__ import annotations

from converters.workers.protocol import work


def main() -> None:
    # inside: TensorFlow takes seconds to import, and a job that is refused early should not wait for it twice
    from converters.workers.training_distill import distill
    from converters.workers.training_prune import prune_magnitude
    from converters.workers.training_qat import fine_tune
    from converters.workers.training_slim import prune_channels

    work({"qat": fine_tune, "magnitude": prune_magnitude, "channels": prune_channels, "distill": distill})
