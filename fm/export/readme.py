"""The page that lies beside an exported model."""

from fm.export.written import Written


def readme(title: str, written: Written, licence: str) -> str:
    """Write the page: what it is, how it is used, how far it is from ours (Markdown)."""
    lines = [f"# {title}", ""]
    lines += [f"- {note}" for note in written.notes]
    lines += ["", "```python", *written.use.strip().splitlines(), "```", ""]
    lines += ["## Compared with eofm", ""]
    lines += ["| on | output | max abs | max rel | allowed |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.on} | {row.output} | {row.max_abs:.2g} | {row.max_rel:.2g} | {row.tolerance:g} |"
        for row in written.agreements
    ]
    lines += ["", "`max rel` is the largest difference over the largest magnitude.", "", licence]
    return "\n".join([*lines, ""])
