"""Pages that open from a disk without a network: elements, axes, the shared look. No torch."""
