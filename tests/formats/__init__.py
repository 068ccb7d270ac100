"""Files that earlier commits wrote still open."""
