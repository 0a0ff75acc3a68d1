"""Trains the benchmark's PyTorch network, inside the environment of the framework: numpy and the framework only.

``python train_torch.py --arrays FOLDER --out FOLDER``. The arrays are SPLIT-image.npy (uint8 RGB), SPLIT-chemistry.npy
(z-scores) and SPLIT-code.npy. Writes model.pt2, model.onnx (both of batch 1) and training.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from networks_torch import Hybrid
from torch import Tensor

SEED = 7
EPOCHS = 10
BATCH = 64
RATE = 4e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrays", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the same sums in the same order on any machine; two threads hardly help so small a net
    model = Hybrid()
    fit(model, *load(chosen.arrays, "train"), epochs=chosen.epochs)
    model.eval()
    image, chemistry, codes = load(chosen.arrays, "test")
    with torch.no_grad():
        accuracy = float((model(image, chemistry)["code"].argmax(1) == codes).float().mean())
    save(model, chosen.out)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    facts = {"accuracy": accuracy, "parameters": parameters, "seconds": round(time.monotonic() - started, 1)}
    (chosen.out / "training.json").write_text(json.dumps(facts))
    print(json.dumps(facts))


def load(arrays: Path, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures channels first in 0..1, z-scores, true codes."""
    pixels = np.load(arrays / f"{split}-image.npy").transpose(0, 3, 1, 2)
    chemistry = np.load(arrays / f"{split}-chemistry.npy").astype(np.float32)
    image = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    return image, torch.from_numpy(chemistry), torch.from_numpy(np.load(arrays / f"{split}-code.npy"))


def fit(model: Hybrid, image: Tensor, chemistry: Tensor, codes: Tensor, *, epochs: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    steps = epochs * -(-len(codes) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(codes)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model.logits(image[batch], chemistry[batch]), codes[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(codes):.3f}", flush=True)


def save(model: Hybrid, out: Path) -> None:
    sample = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 13))
    torch.export.save(torch.export.export(model, sample), out / "model.pt2")
    torch.onnx.export(
        model,
        sample,
        out / "model.onnx",
        input_names=["image", "chemistry"],
        output_names=["code"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    main()
