"""What a machine offers a run, and what would stop one; nothing here needs DeepSpeed to import."""

from fm.doctor.finding import Finding
from fm.doctor.rounds import examine

__all__ = ["Finding", "examine"]
