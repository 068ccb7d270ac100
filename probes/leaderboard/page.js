// Sort a table by the column whose heading button is pressed; unknown values stay last.
"use strict";
const say = document.getElementById("announce");
for (const table of document.querySelectorAll("table.ranks")) {
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
for (const link of document.querySelectorAll("a[href^='#result-']")) {
  link.addEventListener("click", () => setTimeout(open));
}
