"""SpectralEarth's masked autoencoder on a GPU: ours and plain PyTorch (see `bench.gpu_sides`)."""

from bench.gpu_cases import spectral
from bench.gpu_sides import bench

BENCH = bench(
    "gpu_spectral",
    "How fast is SpectralEarth's masked autoencoding on a GPU, ours and plain PyTorch?",
    [spectral("vit_small", "Spec-ViT-S"), spectral("vit_base", "Spec-ViT-B")],
)
