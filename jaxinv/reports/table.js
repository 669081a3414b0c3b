"use strict";
// Tables of more than a few rows can be sorted and filtered. Without this script the
// page says the same; the script moves and hides rows and makes no HTML of text.
const FEW = 5;
const order = new Intl.Collator("en", { numeric: true });

for (const table of document.querySelectorAll(".scroll > table")) {
  const body = table.tBodies[0];
  const rows = body ? Array.from(body.rows) : [];
  if (rows.length > FEW) {
    addSorting(table, body, rows);
    addFilter(table, rows);
  }
}

function addSorting(table, body, rows) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      // Up, down, and back to how the page was written.
      const next = { ascending: "descending", descending: null }[was];
      if (next === null) {
        body.replaceChildren(...rows);
        return;
      }
      head.setAttribute("aria-sort", next ?? "ascending");
      body.replaceChildren(...sorted(rows, column, head.classList.contains("n"), next ? -1 : 1));
    });
  });
}

function sorted(rows, column, numeric, sign) {
  const keyed = rows.map((row) => [row, key(row.cells[column], numeric)]);
  keyed.sort(([, a], [, b]) => {
    // What there is no number of stands last, whichever way the rest is sorted.
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numeric ? Math.sign(a - b) || 0 : order.compare(a, b));
  });
  return keyed.map(([row]) => row);
}

function key(cell, numeric) {
  const text = cell ? cell.textContent.trim() : "";
  if (!numeric) return text === "" || text === "n/a" ? null : text;
  const number = text === "unbounded" ? Infinity : parseFloat(text);
  return Number.isNaN(number) ? null : number;
}

function addFilter(table, rows) {
  const cells = (row) => Array.from(row.cells, (cell) => cell.textContent);
  const texts = rows.map((row) => cells(row).join("\n").toLowerCase());
  const line = document.createElement("p");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  line.className = "filter";
  input.type = "search";
  input.autocomplete = "off";
  input.placeholder = 'words, or "a phrase"';
  count.setAttribute("role", "status");
  label.append("Rows with", input);
  line.append(label, count);
  table.parentElement.before(line);

  function show() {
    const asked = input.value.toLowerCase().match(/"[^"]+"|[^\s"]+/g) ?? [];
    const words = asked.map((word) => word.replaceAll('"', ""));
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  }
  input.addEventListener("input", show);
  show();
}
