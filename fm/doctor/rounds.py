"""All that is looked at, in order."""

from collections.abc import Iterator

from fm.doctor import devices, network, packages, places, together, variables
from fm.doctor.finding import Finding


def examine(seconds: float = together.SECONDS) -> Iterator[Finding]:
    """Look at this machine; each finding comes when it is known.

    Args:
        seconds: of each collective test; 0 leaves them out.
    """
    yield from devices.devices()
    yield from packages.versions()
    yield devices.torchvision()
    yield packages.deepspeed()
    yield from places.compiled_cache()
    yield from places.disks()
    yield places.shared_memory()
    yield places.open_files()
    yield from network.interfaces()
    yield from variables.variables()
    if seconds:
        yield from together.together(seconds)
