"""Distillation: a small model learns what a large one, which is not changed, says of samples."""
