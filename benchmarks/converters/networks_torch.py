"""The PyTorch network of the benchmark: the same shape as the Keras one, pictures channels first.

Runs inside the environment of the framework, so nothing of the project is imported here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

SIDE, CHEMISTRY, CODES = 32, 13, 10


class Hybrid(nn.Module):
    """``image`` (n, 3, 32, 32) in 0..1 and ``chemistry`` (n, 13) z-scores -> {"code": (n, 10) probabilities}."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [InvertedResidual(*sizes) for sizes in ((16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1))]
        self.tower = nn.Sequential(_normalised(3, 16, 3, 2), *blocks, _normalised(40, 96, 1))
        self.felt = nn.Sequential(nn.Linear(CHEMISTRY, 32), nn.ReLU())
        self.decide = nn.Sequential(nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, CODES))

    def logits(self, image: Tensor, chemistry: Tensor) -> Tensor:
        # the mean over (2, 3) would leave a TRANSPOSE in the converted graph, the pooling does not
        seen = adaptive_avg_pool2d(self.tower(image), 1).flatten(1)
        return self.decide(torch.cat([seen, self.felt(chemistry)], dim=1))

    def forward(self, image: Tensor, chemistry: Tensor) -> dict[str, Tensor]:
        return {"code": torch.softmax(self.logits(image, chemistry), dim=1)}


class InvertedResidual(nn.Module):
    """Expand four times, filter each channel by itself, project; added to its input where the shapes agree."""

    def __init__(self, channels: int, filters: int, strides: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.layers = nn.Sequential(
            _normalised(channels, wide, 1),
            _normalised(wide, wide, 3, strides, groups=wide),
            nn.Conv2d(wide, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.residual = strides == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _normalised(channels: int, filters: int, kernel: int, strides: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels, filters, kernel, strides, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters), nn.ReLU6())
