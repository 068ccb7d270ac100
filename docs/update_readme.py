"""Put the figures of a demo into the README: `python docs/update_readme.py fm-demo/demo.json`.

Keeps a copy of the demo's JSON beside this file; a test compares the README with it.
"""

import sys
from pathlib import Path

from fm.files import read_json, write_atomic, write_json
from fm.verbs.demo import markdown

HERE = Path(__file__).resolve().parent
START, END = "<!-- demo -->\n", "<!-- /demo -->"


def fill(readme: str, table: str) -> str:
    """Return the README with the table between its marks."""
    head, rest = readme.split(START)
    return head + START + table + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    summary = read_json(sys.argv[1], "demo result")
    write_json(HERE / "demo.json", summary)
    readme = HERE.parent / "README.md"
    write_atomic(readme, fill(readme.read_text(encoding="utf-8"), markdown(summary)))
