"""The version of eofm, and what files say of the version that wrote them.

This is the one place that states the version; pyproject.toml reads it from here. It changes as
`docs/releasing.md` tells.
"""

from collections.abc import Mapping
from typing import Any

from fm.errors import FMError

__version__ = "0.2.0"
WRITER = f"eofm {__version__}"
"""What a file says of who wrote it, under the key `written_by`."""


def check_format(values: Mapping[str, Any], newest: int, where: str) -> int:
    """Return the format of a document, if this version reads it.

    Args:
        values: the document: `format_version`, and `written_by` since 0.2.0.
        newest: the newest format that this version reads; it reads all from 1.
        where: the file, for errors.

    Raises:
        FMError: newer, or no format at all.
    """
    version = values.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FMError(f"{where}: no format_version from 1, but {version!r}; it is damaged")
    if version > newest:
        writer = values.get("written_by")
        by = f", written by {writer[:40]}," if isinstance(writer, str) else ""
        raise FMError(
            f"{where}: format {version}{by} is newer than {WRITER} reads ({newest}); "
            f"upgrade eofm, or write it again with this version"
        )
    return version
