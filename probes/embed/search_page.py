"""What a search found, as one HTML page with a map that opens from a disk."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from fm.page.html import Markup, el, join, small_table
from fm.page.shell import document
from probes.embed.search import Hit, Query
from shards.seeing.land import equal_earth
from shards.seeing.map import background, graticule

_WIDTH = 1200
_STYLE = """
.world { width: 100%; height: auto; background: var(--field); border: 1px solid var(--line); }
.world .line { stroke: var(--grid); stroke-width: .8; fill: none; }
.world .hit { fill: var(--accent); fill-opacity: .55; stroke: var(--accent); }
.world .query { fill: none; stroke: var(--second); stroke-width: 2.5; }
.world .on { fill: var(--second); fill-opacity: .9; }
tr.on { background: var(--stripe); }
"""
_SCRIPT = """
"use strict";
const marks = [...document.querySelectorAll("[data-rank]")];
function show(rank, on) {
  for (const mark of marks) if (mark.dataset.rank === rank) mark.classList.toggle("on", on);
}
for (const mark of marks) {
  mark.addEventListener("mouseenter", () => show(mark.dataset.rank, true));
  mark.addEventListener("mouseleave", () => show(mark.dataset.rank, false));
}
"""


def page(query: Query, hits: Sequence[Hit], about: dict) -> str:
    """Write the page.

    Args:
        query: what was looked for.
        hits: what was found, the most alike first.
        about: what the file says of itself.
    """
    title = f"Most alike to {query.text}"
    told = f"{query.words}; {about.get('model')} on {about.get('dataset')}; cosine of embeddings."
    unplaced = sum(hit.lon is None for hit in hits)
    if unplaced:
        told += f" {unplaced} of {len(hits)} rows have no place and are not on the map."
    rows = [
        (hit.rank, hit.key, f"{hit.cosine:.4f}", hit.lon, hit.lat, hit.km, hit.time) for hit in hits
    ]
    head = ("rank", "key", "cosine", "longitude", "latitude", "km away", "time")
    table = small_table(head, rows, f"{len(hits)} rows, the most alike first")
    body = el("main", el("header", el("h1", title), el("p", told)), _map(query, hits), table)
    return document(title, body, style=_STYLE, script=_SCRIPT, pictures=True)


def _map(query: Query, hits: Sequence[Hit]) -> Markup:
    image, (left, right, bottom, top) = background(_WIDTH)
    height = round(_WIDTH * (top - bottom) / (right - left))
    scale = np.array([_WIDTH / (right - left), -height / (top - bottom)])

    def pixels(lonlat: np.ndarray) -> np.ndarray:
        return np.round((equal_earth(lonlat) - [left, top]) * scale, 1)

    lines = [
        el("path", d="M" + "L".join(f"{x} {y}" for x, y in line), class_="line")
        for line in (np.round((line - [left, top]) * scale, 1).tolist() for line in graticule())
    ]
    marks = []
    for hit in reversed(hits):  # the most alike on top
        if hit.lon is None or hit.lat is None:
            continue
        x, y = pixels(np.array([hit.lon, hit.lat])).tolist()
        words = el("title", f"{hit.rank}. {hit.key}, cosine {hit.cosine:.4f}")
        circle = el("circle", cx=x, cy=y, r=9 if hit.rank == 1 else 6)
        marks.append(el("g", words, circle, class_="hit", data_rank=hit.rank))
    if np.isfinite(query.lonlat).all():
        x, y = pixels(np.array(query.lonlat)).tolist()
        ring = el("circle", cx=x, cy=y, r=13)
        marks.append(el("g", el("title", f"the query: {query.text}"), ring, class_="query"))
    picture = el("image", href=_uri(image), width=_WIDTH, height=height)
    label = f"a map of the {len(hits)} rows most alike"
    box = f"0 0 {_WIDTH} {height}"
    inside = join([picture, *lines, *marks])
    return el("svg", inside, viewBox=box, class_="world", role="img", aria_label=label)


def _uri(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, image, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
