"use strict";
// Tables whose columns sort, and long ones that filter.
(() => {
  const LONG = 12; // rows from which a table can be filtered
  const DIRECTIONS = { ascending: 1, descending: -1 };

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.v;
    return value === undefined ? cell.textContent.trim() : Number(value);
  };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") {
      return a - b;
    }
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };

  // What is not known comes last, whichever way.
  const isBlank = (key) => key === "" || key === "n/a" || key === "·";

  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (isBlank(a) || isBlank(b)) {
        return isBlank(a) - isBlank(b);
      }
      return DIRECTIONS[direction] * compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      if (at === column) {
        head.setAttribute("aria-sort", direction);
      } else {
        head.removeAttribute("aria-sort");
      }
    });
  };

  const makeSortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim() || table.tBodies[0].rows.length < 2) {
        return;
      }
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      // Of numbers the largest are looked for first, of names the first.
      const first = head.classList.contains("right") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      button.addEventListener("click", () => {
        sort(table, column, head.getAttribute("aria-sort") === first ? other : first);
      });
    });
  };

  const makeFilter = (table, number) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < LONG) {
      return;
    }
    const box = document.createElement("div");
    box.className = "filter";
    const label = document.createElement("label");
    label.htmlFor = `filter-${number}`;
    label.textContent = "Filter";
    const input = document.createElement("input");
    input.type = "search";
    input.id = label.htmlFor;
    input.autocomplete = "off";
    input.spellcheck = false;
    const found = document.createElement("span");
    found.setAttribute("role", "status");
    found.className = "dim";
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        row.hidden = !words.every((word) => texts[at].includes(word));
        shown += !row.hidden;
      });
      found.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    };
    input.addEventListener("input", apply);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        input.value = "";
        apply();
      }
    });
    box.append(label, input, found);
    table.parentElement.before(box);
    apply();
  };

  document.querySelectorAll("table.grid").forEach((table, number) => {
    makeSortable(table);
    makeFilter(table, number);
  });

  // What goes on at the right fades out there.
  document.querySelectorAll(".scroll").forEach((scroll) => {
    const look = () => {
      const left = scroll.scrollWidth - scroll.clientWidth - scroll.scrollLeft;
      scroll.classList.toggle("more", left > 4);
    };
    scroll.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(scroll);
  });

  // On a phone the contents would fill the first screen.
  const contents = document.querySelector(".contents details");
  if (contents && matchMedia("(max-width: 1099px)").matches) {
    contents.open = false;
  }
})();
