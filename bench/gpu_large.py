"""Masked autoencoding of a ViT-Large on a GPU: ours and plain PyTorch (see `bench.gpu_sides`)."""

from bench.gpu_cases import sentinel2
from bench.gpu_sides import bench

BENCH = bench(
    "gpu_large",
    "How fast is masked autoencoding of a ViT-Large on a GPU, ours and plain PyTorch?",
    sentinel2("vit_large", "ViT-L"),
)
