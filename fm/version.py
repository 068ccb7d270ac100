"""The version of eofm: the one place that says it. pyproject.toml reads it from here.

`docs/releasing.md` tells when it changes.
"""

__version__ = "0.2.0"
WRITER = f"eofm {__version__}"
"""What a file says of who wrote it, under the key `written_by`."""
