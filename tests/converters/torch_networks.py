"""Small torch models with fixed weights, for tests: functions for FILE.py:FUNCTION, and exported programs.

``python torch_networks.py NAME FILE`` writes one of PROGRAMS, with the Python of the environment "torch".
"""

from __future__ import annotations

import sys

import torch
from torch import nn

SIDE = 16


class Hybrid(nn.Module):
    """A picture and five sensors to four classes."""

    def __init__(self, *, mean=False):
        super().__init__()
        torch.manual_seed(7)
        self.tower = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU()
        )
        self.felt = nn.Linear(5, 6)
        self.dropout = nn.Dropout(0.5)
        self.decide = nn.Linear(18, 4)
        self.mean = mean

    def forward(self, image, chemistry):
        seen = self.tower(image)
        pooled = seen.mean((2, 3)) if self.mean else nn.functional.adaptive_avg_pool2d(seen, 1).flatten(1)
        both = torch.cat([pooled, torch.relu(self.felt(chemistry))], dim=1)
        return {"code": torch.softmax(self.decide(self.dropout(both)), dim=1)}


class Pair(Hybrid):
    """Two outputs without names."""

    def forward(self, image, chemistry):
        code = super().forward(image, chemistry)["code"]
        return code, code.sum(dim=1, keepdim=True) * 3


class Folded(Hybrid):
    """Takes pictures with the channels last already."""

    def forward(self, image, chemistry):
        return super().forward(image.permute(0, 3, 1, 2), chemistry)


def examples(batch=1):
    return {"image": torch.zeros(batch, 3, SIDE, SIDE), "chemistry": torch.zeros(batch, 5)}


def hybrid():
    return Hybrid().eval(), examples()


def sensors_first():
    return Hybrid().eval(), dict(reversed(examples().items()))


def with_mean():
    return Hybrid(mean=True).eval(), examples()


def in_training():
    return Hybrid(), examples()


def pair():
    return Pair().eval(), examples()


def folded():
    return Folded().eval(), {"image": torch.zeros(1, SIDE, SIDE, 3), "chemistry": torch.zeros(1, 5)}


def misnamed():
    return Hybrid().eval(), {"picture": torch.zeros(1, 3, SIDE, SIDE), "chemistry": torch.zeros(1, 5)}


def without_examples():
    return Hybrid().eval()


def program(model, inputs, **options):
    return torch.export.export(model, tuple(inputs.values()), **options)


def open_batch():
    batch = torch.export.Dim("batch")
    return program(Hybrid().eval(), examples(2), dynamic_shapes={"image": {0: batch}, "chemistry": {0: batch}})


PROGRAMS = {
    "by_position": lambda: program(*hybrid()),
    "by_keyword": lambda: torch.export.export(Hybrid().eval(), (), examples()),
    "open_batch": open_batch,
    "batch_of_4": lambda: program(Hybrid().eval(), examples(4)),
    "in_training": lambda: program(Hybrid(), examples()),
}

if __name__ == "__main__":
    torch.export.save(PROGRAMS[sys.argv[1]](), sys.argv[2])
