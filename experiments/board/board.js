"use strict";
(() => {
  const form = document.querySelector(".filters");
  const sections = [...document.querySelectorAll("section[data-prompts]")];
  form.hidden = false;

  function filter() {
    const wanted = [...form.querySelectorAll("[data-filter]")].map((s) => [s.dataset.filter, s.value]);
    for (const section of sections) section.hidden = wanted.some(([key, value]) => value && section.dataset[key] !== value);
    const shown = sections.filter((section) => !section.hidden).length;
    form.querySelector("output").textContent = `${shown} of ${sections.length} ${sections.length === 1 ? "table" : "tables"}`;
  }
  function show() {
    for (const box of form.querySelectorAll("[data-show]")) document.body.classList.toggle(`without-${box.dataset.show}`, !box.checked);
  }
  form.addEventListener("change", () => { filter(); show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
  show();

  // Which small line of a cell is what: an interval stands in brackets, what follows a signed number is of a difference.
  for (const cell of document.querySelectorAll(".board tbody td")) {
    const lines = [...cell.querySelectorAll("small")];
    const first = lines.findIndex((line) => !line.textContent.startsWith("["));
    lines.forEach((line, i) => line.classList.add(first >= 0 && i >= first ? "versus" : "interval"));
  }

  // A heading sorts its table: first the way it is better, then the other way; what has no number stays at the end.
  for (const table of document.querySelectorAll("table.board")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const lower = head.textContent.includes("↓") || column === 0;
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const ascending = before ? before === "descending" : lower;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const value = (row) => {
          const cell = row.cells[column];
          return column === 0 ? cell.textContent : cell.dataset.order ? Number(cell.dataset.order) : null;
        };
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a), y = value(b);
          if (x === null || y === null) return (x === null) - (y === null);
          const order = column === 0 ? x.localeCompare(y) : x - y;
          return ascending ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  function open() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView({ block: "center" }); }
  }
  addEventListener("hashchange", open);
  open();
})();
