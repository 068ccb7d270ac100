// Reading values off the charts, with the pointer or the keyboard. Without this script the last
// values stand below each chart and in the table.
"use strict";
const plots = [...document.querySelectorAll(".plot")];

const near = (xs, x) => {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return x - xs[low] <= xs[high] - x ? low : high;
};
const text = (value) => {
  const size = Math.abs(value);
  const short = size !== 0 && (size < 1e-3 || size >= 1e5)
    ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return short.replaceAll("-", "\u2212");
};

for (const plot of plots) {
  const data = plot.dataset;
  plot.held = JSON.parse(data.lines);
  plot.low = Number(plot.getAttribute("aria-valuemin"));
  plot.high = Number(plot.getAttribute("aria-valuemax"));
  plot.places = [...new Set(plot.held.flatMap((line) => line.x))].sort((a, b) => a - b);
  plot.cursor = plot.querySelector(".cursor");
  plot.readout = plot.closest("figure").querySelector(".readout");
  const unit = data.unit ? ` ${data.unit}` : "";
  plot.show = (x) => {
    const at = plot.places[near(plot.places, x)];
    const share = (100 * (at - plot.low)) / Math.max(plot.high - plot.low, 1e-12);
    plot.cursor.setAttribute("x1", `${share}%`);
    plot.cursor.setAttribute("x2", `${share}%`);
    plot.cursor.classList.add("on");
    const words = plot.held.filter((line) => line.x.length).map((line) =>
      `${line.name ? `${line.name} ` : ""}${text(line.y[near(line.x, at)])}${unit}`);
    const said = `${data.across} ${text(at)}: ${words.join("; ")}`;
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", said);
    plot.readout.textContent = said;
    plot.at = at;
  };
}

// charts over the steps move together
const everywhere = (plot, x) => {
  const others = "synced" in plot.dataset ? plots.filter((p) => "synced" in p.dataset) : [plot];
  for (const other of others) if (other.places.length) other.show(x);
};
for (const plot of plots) {
  if (!plot.places.length) continue;
  const follow = (event) => {
    const box = plot.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    everywhere(plot, plot.low + share * (plot.high - plot.low));
  };
  plot.addEventListener("pointermove", follow);
  plot.addEventListener("pointerdown", follow);
  plot.addEventListener("keydown", (event) => {
    const count = plot.places.length;
    const now = plot.at === undefined ? count - 1 : plot.places.indexOf(plot.at);
    const far = Math.max(1, Math.round(count / 10));
    const moves = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
      PageDown: now - far, PageUp: now + far, Home: 0, End: count - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    everywhere(plot, plot.places[Math.min(Math.max(moves[event.key], 0), count - 1)]);
  });
}
