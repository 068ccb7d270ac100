"""A map as one HTML page that needs no network."""

import base64
import calendar
import html
import io
import json
from typing import Any

import numpy as np

from shards.seeing.map import COLOURS, WAYS, background, corners, graticule
from shards.seeing.tally import KINDS, Tally

_WIDTH = 1200

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title><style>
body{font:14px system-ui,sans-serif;margin:1rem;color:#222;background:#fff}
h1{font-size:1.1rem}
#row{display:flex;gap:1rem;align-items:flex-start;flex-wrap:wrap}
#map{max-width:100%;height:auto}
#about{min-height:3.2em;white-space:pre-line}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .8em}
</style></head><body><h1>@TITLE@</h1>
<label>Colours: <select id="by"></select></label><span id="legend"></span>
<div id="row"><canvas id="map" role="img" aria-label="@TITLE@"></canvas>
<canvas id="months" width="220" height="330" role="img" aria-label="samples by month"></canvas>
</div><p id="about"></p><p>@NOTE@</p>
<script type="application/json" id="data">@DATA@</script><script>
"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const map = document.getElementById("map"), draw = map.getContext("2d");
const months = document.getElementById("months").getContext("2d");
const by = document.getElementById("by"), about = document.getElementById("about");
map.width = D.width; map.height = D.height;
for (const way of D.ways) by.add(new Option(way, way, way === D.by, way === D.by));
const base = new Image();
const sum = list => list.reduce((a, b) => a + b, 0);
const totals = D.counts.dataset.map(sum), top1 = Math.max(2, ...D.peak);
const colour = (kind, k) => D.colours[k % D.colours.length];
function shade(n) {
  const t = Math.log(n) / Math.log(top1);
  return `hsl(${60 + 200 * t} 70% ${65 - 30 * t}%)`;
}
function path(b) {
  draw.beginPath();
  draw.moveTo(b[2], b[0]); draw.lineTo(b[3], b[0]); draw.lineTo(b[5], b[1]);
  draw.lineTo(b[4], b[1]); draw.closePath();
}
function paint() {
  draw.clearRect(0, 0, map.width, map.height);
  if (base.width > 1) draw.drawImage(base, 0, 0, map.width, map.height);
  draw.strokeStyle = "#ccc"; draw.lineWidth = 0.6;
  for (const line of D.lines) {
    draw.beginPath();
    line.forEach((p, i) => i ? draw.lineTo(p[0], p[1]) : draw.moveTo(p[0], p[1]));
    draw.stroke();
  }
  const way = by.value;
  D.blocks.forEach((b, i) => {
    const c = way === "density" ? null : D.counts[way][i];
    draw.fillStyle = c ? colour(way, c.indexOf(Math.max(...c))) : shade(totals[i]);
    path(b); draw.fill();
    if (D.blocks.length <= 20) {
      draw.strokeStyle = "#c44e52"; draw.lineWidth = 1.5; draw.beginPath();
      draw.arc((b[2] + b[3]) / 2, (b[0] + b[1]) / 2, 9, 0, 7); draw.stroke();
    }
  });
  const legend = document.getElementById("legend");
  legend.replaceChildren();
  const keys = way === "density" ? [[shade(1), "1"], [shade(top1), `${top1} in a block`]]
    : D.names[way].map((name, k) => [colour(way, k), `${name} ${D.sums[way][k]}`])
      .filter((_, k) => D.sums[way][k]);
  for (const [fill, text] of keys) {
    const key = document.createElement("span");
    key.className = "key"; key.style.background = fill;
    legend.append(key, text);
  }
  bars(way === "density" ? "dataset" : way, way === "density");
}
function bars(kind, plain) {
  const rows = D.months[kind], most = Math.max(1, ...rows.map(sum));
  months.clearRect(0, 0, 220, 330); months.font = "11px system-ui,sans-serif";
  rows.forEach((row, m) => {
    if (m === 12 && !sum(row)) return;
    let x = 56;
    months.fillStyle = "#222"; months.fillText(D.labels[m], 2, 18 + 25 * m);
    row.forEach((n, k) => {
      months.fillStyle = plain ? D.colours[0] : colour(kind, k);
      months.fillRect(x, 6 + 25 * m, 110 * n / most, 17); x += 110 * n / most;
    });
    months.fillStyle = "#555"; months.fillText(sum(row), x + 3, 18 + 25 * m);
  });
}
map.addEventListener("mousemove", event => {
  const box = map.getBoundingClientRect();
  const x = (event.clientX - box.left) * map.width / box.width;
  const y = (event.clientY - box.top) * map.height / box.height;
  const i = D.blocks.findIndex((b, i) => {
    if (y > b[0] + 1 || y < b[1] - 1) return false;
    const t = (b[0] - y) / Math.max(1e-9, b[0] - b[1]);
    return x >= b[2] + t * (b[4] - b[2]) - 1 && x <= b[3] + t * (b[5] - b[3]) + 1;
  });
  if (i < 0) { about.textContent = ""; return; }
  const parts = D.kinds.map(kind => kind + ": " + D.names[kind].map((name, k) =>
    [name, D.counts[kind][i][k]]).filter(e => e[1]).map(e => e.join(" ")).join(", "));
  const head = `${D.places[i]}: ${totals[i]} sample${totals[i] === 1 ? "" : "s"}`;
  about.textContent = [head, ...parts].join("\\n");
});
by.addEventListener("change", paint);
base.onload = base.onerror = paint;
base.src = D.image;
</script></body></html>
"""


def page(found: Tally, by: str) -> str:
    """Write the page.

    Args:
        found: what was counted.
        by: what the colours mean at first.
    """
    image, (left, right, bottom, top) = background(_WIDTH)
    height = round(_WIDTH * (top - bottom) / (right - left))

    def pixels(xy: np.ndarray) -> np.ndarray:
        scale = np.array([_WIDTH / (right - left), -height / (top - bottom)])
        return np.round((xy - [left, top]) * scale, 1)

    around = pixels(corners(found))
    blocks = np.stack(
        [
            *(around[:, 0, 1], around[:, 2, 1]),  # south and north edge
            *(around[:, k, 0] for k in (0, 1, 3, 2)),  # west and east corners, south then north
        ],
        axis=1,
    )
    total = found.counts["dataset"].sum(axis=1)
    data: dict[str, Any] = {
        "width": _WIDTH,
        "height": height,
        "image": _uri(image),
        "lines": [pixels(line).tolist() for line in graticule()],
        "blocks": blocks.tolist(),
        "places": _places(found),
        "peak": [int(total.max(initial=1))],
        "by": by,
        "ways": WAYS,
        "kinds": KINDS,
        "colours": COLOURS,
        "names": found.names,
        "counts": {kind: counts.tolist() for kind, counts in found.counts.items()},
        "sums": {kind: counts.sum(axis=0).tolist() for kind, counts in found.counts.items()},
        "months": {kind: months.tolist() for kind, months in found.months.items()},
        "labels": [*(calendar.month_abbr[m] for m in range(1, 13)), "unknown"],
    }
    placed = found.samples - found.unplaced
    title = f"{', '.join(found.names['dataset'])}: {placed} samples"
    note = f"Equal Earth projection; blocks of equal area, {found.km:g} km wide."
    if found.unplaced:
        note += f" {found.unplaced} samples have no coordinates and are not on the map."
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"@TITLE@": html.escape(title), "@NOTE@": html.escape(note), "@DATA@": text}
    result = _PAGE
    for mark, value in parts.items():
        result = result.replace(mark, value)
    return result


def _places(found: Tally) -> list[str]:
    """Centre of each block in words."""
    from shards.splits.buffer import all_bounds

    bounds = all_bounds(found.blocks, found.km)
    lons, lats = bounds[:, [0, 2]].mean(axis=1), bounds[:, [1, 3]].mean(axis=1)
    return [
        f"{abs(lat):.1f}°{'S' if lat < 0 else 'N'} {abs(lon):.1f}°{'W' if lon < 0 else 'E'}"
        for lon, lat in zip(lons.tolist(), lats.tolist(), strict=True)
    ]


def _uri(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, image, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
