"""When the run went on, what it kept, and which steps it did not take."""

from fm.page.html import Markup, el, join, small_table
from pretrain.report.read import Record

_LONGEST = 200
"""Rows of a table of events; later ones are counted."""


def section(record: Record) -> list[Markup]:
    """Draw the steps of a run as a bar, with tables of its sessions and skipped steps."""
    sessions, skipped = record.events.get("sessions", []), record.events.get("skipped", [])
    made = [_bar(record)]
    if sessions:
        rows = [
            (
                str(number),
                row.get("time"),
                row.get("step"),
                row.get("world_size"),
                str((row.get("git") or {}).get("commit", ""))[:10] or None,
            )
            for number, row in enumerate(sessions, 1)
        ]
        head = ("session", "began (UTC)", "after step", "ranks", "commit")
        made.append(small_table(head, rows[-_LONGEST:], "Sessions"))
    else:
        made.append(el("p", "This run kept no list of its sessions.", class_="facts"))
    if skipped:
        keys = list(dict.fromkeys(key for row in skipped for key in row))
        rows_of = [[_cell(row.get(key)) for key in keys] for row in skipped[-_LONGEST:]]
        caption = f"Steps that were not taken: {len(skipped)}"
        if len(skipped) > _LONGEST:
            caption += f", the last {_LONGEST}"
        made.append(small_table(keys, rows_of, caption))
    return made


def _cell(value: object) -> object:
    return ", ".join(map(str, value[:4])) if isinstance(value, list) else value


def _bar(record: Record) -> Markup:
    whole = max(record.steps, record.done, 1)

    def x(step: int) -> str:
        return f"{100 * step / whole:.2f}%"

    parts = [
        el("rect", class_="whole", x="0", y=6, width="100%", height=14),
        el("rect", class_="done", x="0", y=6, width=x(record.done), height=14),
    ]
    events = {
        "kept": list(record.checkpoints),
        "again": _steps(record, "sessions"),
        "skipped": _steps(record, "skipped"),
    }
    for name, steps in events.items():
        parts += [
            el("line", class_=name, x1=x(step), x2=x(step), y1=1, y2=25)
            for step in steps[-_LONGEST:]
        ]
    for step, anchor in ((0, "start"), (whole, "end")):
        parts.append(el("text", f"{step:,}", x=x(step), y=40, text_anchor=anchor))
    words = f"{record.done} of {whole} steps; {len(record.checkpoints)} checkpoints in the folder"
    drawn = el("svg", *parts, role="img", aria_label=words, width="100%", height=44)
    names = {"kept": "checkpoint", "again": "went on", "skipped": "not taken"}
    keys = [
        el(
            "li",
            el(
                "svg", el("line", class_=name, x1=6, x2=6, y1=0, y2=14), width=12, height=14,
                aria_hidden="true",
            ),
            f"{word} ({len(events[name])})",
        )
        for name, word in names.items()
        if events[name]
    ]  # fmt: skip
    legend = [el("ul", *keys, class_="keys")] if keys else []
    return join([el("div", drawn, class_="timeline"), *legend])


def _steps(record: Record, event: str) -> list[int]:
    rows = record.events.get(event, [])
    found = [row["step"] for row in rows if isinstance(row.get("step"), int)]
    return [step for step in found if step or event != "sessions"]
