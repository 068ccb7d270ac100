"""The head of the page: where the run stands, what it came to, what is worth a look."""

import numpy as np

from fm.page.html import Markup, el, join
from pretrain.report.names import SAMPLES, short
from pretrain.report.onway import probes
from pretrain.report.read import Record, Series, at
from pretrain.report.thin import ends

_WORDS = {
    "finished": "finished",
    "stopped": "stopped",
    "requeue": "stopped, to be started again",
    "stalled": "stopped because it stood still",
    "running": "running",
}
_SLOW = 0.1
"""Share of the time waited for data from which it is worth a look."""
_LEAP = 10.0
"""How many times its median a gradient norm is a leap."""


def status(record: Record) -> Markup:
    """Say in a word how the run stands."""
    told = str(record.state.get("status"))
    return el("span", _WORDS.get(told, told), class_=f"status {_class(told)}")


def _class(told: str) -> str:
    return told if told in ("finished", "running") else "stopped"


def lead(record: Record) -> Markup:
    """Say in a sentence what was done."""
    done, steps = record.done, record.steps
    size = at(record.config, "data.batch_size")
    samples = f", {short(done * size)} samples" if isinstance(size, int) else ""
    seconds = record.state.get("seconds")
    spent = f", {duration(seconds)} of training" if isinstance(seconds, int | float) else ""
    rest = remaining(record)
    more = f", about {duration(rest)} to go" if rest else ""
    bar = el("progress", value=done, max=max(steps, 1), aria_label=f"{done} of {steps} steps")
    text = f"{done:,} of {steps:,} steps{samples}{spent}{more}."
    return join([el("p", text, class_="lead"), bar])


def remaining(record: Record) -> float | None:
    """Estimate the seconds to the end from the logged steps' median time; None when it is over."""
    left, series = record.steps - record.done, record.whole("seconds")
    if left <= 0 or series is None:
        return None
    return left * float(np.median(series.values[-200:]))


def duration(seconds: float) -> str:
    """Write a time span in its two largest units."""
    whole = round(seconds)
    for unit, size, smaller, less in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // less} {smaller}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def tiles(record: Record) -> Markup:
    """Show the figures that one looks for first."""
    made: list[tuple[str, str, str]] = []
    for part, series in record.named("loss").items():
        first, last = ends(series)
        made.append((f"loss, {part}" if part else "loss", short(last), f"from {short(first)}"))
    for name, held in probes(record).items():
        best = held[np.nanargmax(held[:, 1])]
        made.append((name, short(held[-1, 1]), f"highest {short(best[1])} at {int(best[0]):,}"))
    size, seconds = at(record.config, "data.batch_size"), record.whole("seconds")
    if (rate := record.whole(SAMPLES)) is not None:
        made.append(("samples a second", short(float(rate.values[-1])), "last logged steps"))
    elif isinstance(size, int) and seconds is not None and np.median(seconds.values) > 0:
        typical = size / float(np.median(seconds.values))
        made.append(("samples a second", short(typical), "median of logged steps"))
    if (mfu := record.whole("mfu")) is not None:
        made.append(("model FLOPs utilisation", _percent(mfu.values[-1]), "last logged step"))
    if (wait := record.whole("data_wait")) is not None:
        made.append(("waiting for data", _percent(wait.values[-1]), "share of the time"))
    if (norm := record.whole("grad_norm")) is not None:
        made.append(("gradient norm", short(ends(norm)[1]), f"highest {short(norm.values.max())}"))
    sessions = len(record.events.get("sessions", []))
    if sessions > 1:
        made.append(("sessions", str(sessions), "see the timeline"))
    items = [
        el("div", el("dt", name), el("dd", el("strong", value), " ", el("small", note)))
        for name, value, note in made
    ]
    return el("dl", *items, class_="tiles") if items else Markup("")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def worth_a_look(record: Record) -> list[str]:
    """List facts that a person should not miss; none of them is a verdict."""
    found = []
    told = record.state.get("status")
    if told == "running":
        found.append(
            f"state.json says running, at step {record.done:,}. If no process is alive, the same "
            "command goes on from the last checkpoint."
        )
    elif told != "finished":
        reason = record.state.get("reason")
        what = "failed" if told == "failed" else "was stopped before its end"
        why = f": {reason}" if reason else ""
        found.append(f"The run {what}{why}. The same command goes on from the last checkpoint.")
    if skipped := len(record.events.get("skipped", [])):
        found.append(f"Steps that were not taken: {skipped} (see the timeline).")
    if record.quarantined:
        found.append(f"Samples that could not be read: {record.quarantined} (quarantine-*.jsonl).")
    if record.unfinite:
        found.append(f"Logged values that are not finite: {record.unfinite}.")
    wait = record.whole("data_wait")
    if wait is not None and wait.values[-1] > _SLOW:
        found.append(
            f"Waiting for data took {_percent(wait.values[-1])} of the time: more data.threads, a "
            "local copy or a cache may help."
        )
    norm = record.whole("grad_norm")
    if norm is not None and (leap := _leap(norm, at(record.config, "schedule.warmup"))):
        step, value, times = leap
        found.append(
            f"The gradient norm reached {short(value)} at step {step:,}, {times:.0f} times its "
            "median after the warm-up."
        )
    for part, series in record.named("loss").items():
        if _flat(series):
            where = f" of {part}" if part else ""
            found.append(
                f"The loss{where} was no lower in the last third of the run than in the third "
                "before."
            )
    git = record.environment.get("git")
    if isinstance(git, dict) and git.get("changed"):
        found.append("The source had changes that were not committed.")
    return found


def _leap(norm: Series, warmup: object) -> tuple[int, float, float] | None:
    """Return the step of the largest gradient norm after the warm-up, if it is a leap."""
    later = norm.steps > (warmup if isinstance(warmup, int) else 0)
    steps, values = norm.steps[later], norm.values[later]
    if len(values) < 20:
        return None
    middle, place = float(np.median(values)), int(values.argmax())
    if not values[place] > _LEAP * middle > 0:
        return None
    return int(steps[place]), float(values[place]), float(values[place]) / middle


def _flat(series: Series) -> bool:
    """Say whether the mean of the last third is no lower than that of the third before it."""
    if len(series.values) < 60:
        return False
    _, middle, last = np.array_split(series.values, 3)
    return bool(last.mean() >= middle.mean())
