// Sorting and filtering. Without this script the pages show everything in its first order.
"use strict";
const say = document.getElementById("announce");

// A heading's button sorts its table; unknown values stay last, whatever the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const order = now ? (now === "ascending" ? "descending" : "ascending") : head.dataset.first;
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value ?? "";
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (head.dataset.type === "number" ? x - y : x.localeCompare(y, "en"));
      };
      body.append(...[...body.rows].sort(compare));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      say.textContent = `Sorted by ${button.textContent.trim()}, ${order}`;
    });
  });
}

// The filters: rows of the list and the grid, and columns of the grid.
const form = document.getElementById("filters");
if (form) {
  const fields = [...form.querySelectorAll("select, input")];
  const count = document.getElementById("count");
  const list = document.getElementById("listing").tBodies[0];
  const grid = document.getElementById("grid");
  const heads = [...grid.tHead.rows[0].cells];

  const fits = (data, wanted, names) => names.every((name) => {
    if (!wanted[name]) return true;
    if (name === "model") return data.model.toLowerCase().includes(wanted.model.toLowerCase());
    // a floor has no protocol: it stands beside all of them
    return !data[name] || data[name] === wanted[name];
  });

  const apply = () => {
    const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
    const used = fields.filter((field) => field.value.trim());
    let shown = 0;
    for (const row of list.rows) {
      row.hidden = !fits(row.dataset, wanted, Object.keys(wanted));
      shown += !row.hidden;
    }
    const columns = ["task", "benchmark", "protocol", "verified"];
    heads.forEach((head, at) => { head.hidden = at > 0 && !fits(head.dataset, wanted, columns); });
    for (const row of grid.tBodies[0].rows) {
      let held = false;
      [...row.cells].forEach((cell, at) => {
        cell.hidden = heads[at].hidden;
        if (at < 1 || cell.hidden) return;
        const off = wanted.transductive && cell.dataset.transductive !== wanted.transductive;
        cell.classList.toggle("off", Boolean(off && cell.dataset.value));
        held ||= cell.dataset.value !== "" && !off;
      });
      row.hidden = !held || !fits(row.dataset, wanted, ["model", "kind"]);
    }
    const all = list.rows.length;
    count.textContent = used.length ? `${shown} of ${all} results` : `${all} results`;
    const query = new URLSearchParams(used.map((field) => [field.name, field.value.trim()]));
    const hash = used.length ? `#?${query}` : "";
    if (used.length || location.hash.startsWith("#?")) {
      history.replaceState(null, "", hash || location.pathname);
    }
  };

  // a link keeps its filters behind "#?"
  const restore = () => {
    if (!location.hash.startsWith("#?")) return;
    const query = new URLSearchParams(location.hash.slice(2));
    for (const field of fields) field.value = query.get(field.name) ?? "";
    apply();
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  addEventListener("hashchange", restore);
  restore();
}

// A link to a result opens its details.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", open);
open();
for (const link of document.querySelectorAll("a[href^='#']")) {
  link.addEventListener("click", () => setTimeout(open));
}
