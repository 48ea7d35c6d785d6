"use strict";
// Heat maps: another figure, other axes, other values of the axes that are neither rows nor columns,
// and what a cell has to tell.
(() => {
  const holder = document.getElementById("data");
  const maps = holder ? JSON.parse(holder.textContent).maps : [];

  const element = (tag, words, className) => {
    const made = document.createElement(tag);
    if (words !== undefined) {
      made.textContent = words;
    }
    if (className) {
      made.className = className;
    }
    return made;
  };

  const setUp = (box, map) => {
    const state = { figure: 0, down: map.down, across: map.across, at: [...map.start], focus: [0, 0] };
    const captured = new Set(map.captured);
    const fronts = map.figures.map((figure) => new Set(figure.on));
    const table = box.querySelector(".heat-table");
    const legend = box.querySelector(".heat-legend");
    const detail = box.querySelector(".cell-detail");
    const tools = box.querySelector(".heat-tools");

    // Cells stand in the order of the axes, the last one fastest.
    const placeOf = (row, column) => {
      const at = [...state.at];
      at[state.down] = row;
      at[state.across] = column;
      return map.axes.reduce((place, [, words], axis) => place * words.length + at[axis], 0);
    };

    const words = (place) => {
      const found = [];
      let rest = place;
      for (let axis = map.axes.length - 1; axis >= 0; axis -= 1) {
        const [name, values] = map.axes[axis];
        found.unshift([name, values[rest % values.length]]);
        rest = Math.floor(rest / values.length);
      }
      return found;
    };

    const tell = (place) => {
      const list = element("dl", undefined, "pairs");
      const add = (label, text) => {
        if (text) {
          const pair = element("div");
          pair.append(element("dt", label), element("dd", text));
          list.append(pair);
        }
      };
      const name = words(place).map(([axis, word]) => `${axis} ${word}`).join(", ");
      const head = element("p", name + (captured.has(place) ? " (the captured machine)" : ""), "bold");
      const state_ = map.strings[map.states[place]];
      add(state_, map.strings[map.reasons[place]]);
      const told = map.figures
        .map((figure) => [figure.title, map.strings[figure.texts[place]]])
        .filter(([, text]) => text);
      told.forEach(([title, text]) => add(title, text));
      add("than now", map.strings[map.than[place]]);
      map.caveats[map.own[place]].forEach((caveat) => add("caveat", caveat));
      detail.replaceChildren(head, list);
    };

    const cellOf = (row, column) => {
      const place = placeOf(row, column);
      const figure = map.figures[state.figure];
      const shade = figure.shades[place];
      const text = map.strings[map.states[place]] || map.strings[figure.texts[place]];
      const cell = element("td", text, shade === "." || map.states[place] !== empty ? "none" : `s${shade}`);
      if (captured.has(place)) {
        cell.classList.add("captured");
        cell.append(element("span", " captured machine", "unseen"));
      }
      if (fronts[state.figure].has(place)) {
        cell.classList.add("front");
        cell.append(element("span", " front", "unseen"));
      }
      cell.tabIndex = row === state.focus[0] && column === state.focus[1] ? 0 : -1;
      cell.addEventListener("focus", () => {
        focusOn(row, column);
        tell(place);
      });
      return cell;
    };
    const empty = map.strings.indexOf("");

    const focusOn = (row, column) => {
      const [before, beside] = state.focus;
      const body = table.tBodies[0];
      body.rows[before]?.cells[beside + 1]?.setAttribute("tabindex", "-1");
      state.focus = [row, column];
      body.rows[row].cells[column + 1].tabIndex = 0;
    };

    table.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || event.target.tagName !== "TD") {
        return;
      }
      const [row, column] = state.focus;
      const next = table.tBodies[0].rows[row + step[0]]?.cells[column + step[1] + 1];
      if (next && next.tagName === "TD") {
        event.preventDefault();
        next.focus();
      }
    });

    const draw = () => {
      const figure = map.figures[state.figure];
      const [downName, rows] = map.axes[state.down];
      const [acrossName, columns] = map.axes[state.across];
      state.focus = [0, 0];
      table.caption.textContent = `${figure.title} over ${downName} and ${acrossName}`;
      const head = element("tr");
      const corner = element("th", `${downName} \\ ${acrossName}`);
      corner.scope = "col";
      head.append(corner);
      columns.forEach((word) => {
        const title = element("th", word, "right");
        title.scope = "col";
        head.append(title);
      });
      table.tHead.replaceChildren(head);
      table.tBodies[0].replaceChildren(
        ...rows.map((word, row) => {
          const line = element("tr");
          const title = element("th", word);
          title.scope = "row";
          line.append(title, ...columns.map((_, column) => cellOf(row, column)));
          return line;
        }),
      );
      legend.replaceChildren(
        ...figure.legend.map(([shade, text], at) => {
          const entry = element("li");
          entry.append(element("i", undefined, `swatch s${shade}`), text + (at === 0 ? " (best)" : ""));
          return entry;
        }),
      );
      if (captured.size) {
        legend.append(element("li", "the captured machine", "is-captured"));
      }
      if (figure.front && figure.on.length) {
        legend.append(element("li", figure.front, "is-front"));
      }
      detail.replaceChildren(element("p", "Choose a cell for all of its figures; arrow keys go from one to the next.", "dim"));
    };

    const choice = (label, options, chosen, change) => {
      const box_ = element("label", label);
      const select = element("select", undefined, "tool");
      options.forEach((text, at) => {
        const option = element("option", text);
        option.value = at;
        option.selected = at === chosen;
        select.append(option);
      });
      select.addEventListener("change", () => change(Number(select.value)));
      box_.append(" ", select);
      return box_;
    };

    const names = map.axes.map(([name]) => name);
    const drawTools = () => {
      const found = [
        choice("Figure", map.figures.map((figure) => figure.title), state.figure, (at) => {
          state.figure = at;
          draw();
        }),
      ];
      if (map.axes.length > 2) {
        // an axis that is chosen twice changes places with the other
        const turn = (which, other) => (at) => {
          if (state[other] === at) {
            state[other] = state[which];
          }
          state[which] = at;
          drawTools();
          draw();
        };
        found.push(choice("Rows", names, state.down, turn("down", "across")));
        found.push(choice("Columns", names, state.across, turn("across", "down")));
      }
      map.axes.forEach(([name, values], axis) => {
        if (axis !== state.down && axis !== state.across) {
          found.push(choice(name, values, state.at[axis], (at) => {
            state.at[axis] = at;
            draw();
          }));
        }
      });
      tools.replaceChildren(...found);
    };

    tools.hidden = map.figures.length < 2 && map.axes.length < 3;
    drawTools();
    draw();
  };

  document.querySelectorAll(".heat").forEach((box) => setUp(box, maps[Number(box.dataset.map)]));
})();
