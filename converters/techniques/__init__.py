"""Techniques that train: quantisation-aware fine-tuning, pruning, distillation. Each is measured against an honest
baseline."""
