"use strict";
// Sorting of tables by their headings, and filters. Without it everything is still there to be read.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = table.tHead.rows[0].cells;
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number(text.replace(/,/g, ""));
    return text === "–" ? null : text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
  };
  const compare = (one, other) =>
    one === null || other === null ? (one === null) - (other === null) : 0; // what was not measured stands last, either way
  [...heads].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const falling = before ? before === "ascending" : numbers;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      rows.sort(([one], [other]) => {
        const missing = compare(one, other);
        if (missing || one === null) return missing;
        const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
        return falling ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
for (const input of document.querySelectorAll("input[data-filter]")) {
  const target = document.getElementById(input.dataset.filter);
  const hidden = input.closest("[hidden]");
  if (hidden) hidden.hidden = false;
  const items = [...target.querySelectorAll(":scope > li, tbody > tr")];
  const words = items.map((item) => item.dataset.words || item.cells[0].textContent.toLowerCase());
  const none = target.nextElementSibling;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    items.forEach((item, i) => {
      item.hidden = !wanted.every((word) => words[i].includes(word));
      shown += !item.hidden;
    });
    if (none && none.classList.contains("none")) none.hidden = shown > 0;
  });
}
