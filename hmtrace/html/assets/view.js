"use strict";
// Which part of the captured time is shown, and what changes it: buttons, keys, the strip above.
hmtrace.View = class {
  constructor(data) {
    this.end = Math.max(data.end, 1);
    this.least = Math.min(2 * data.bin, this.end);
    this.min = 0;
    this.max = this.end;
    this.listeners = [];
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  set(min, max) {
    const width = Math.min(Math.max(max - min, this.least), this.end);
    const middle = (min + max) / 2;
    this.min = Math.min(Math.max(middle - width / 2, 0), this.end - width);
    this.max = this.min + width;
    this.listeners.forEach((listener) => listener(this));
  }

  all() {
    this.set(0, this.end);
  }

  zoom(factor, at = (this.min + this.max) / 2) {
    this.set(at - (at - this.min) * factor, at + (this.max - at) * factor);
  }

  pan(part) {
    const by = (this.max - this.min) * part;
    const start = Math.min(Math.max(this.min + by, 0), this.end - (this.max - this.min));
    this.set(start, start + this.max - this.min);
  }
};

hmtrace.tools = (view, data, place) => {
  const words = (ns) => hmtrace.format.span(ns, data.isTime);

  const button = (text, label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "tool";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.title = label;
    made.addEventListener("click", act);
    return made;
  };
  const range = document.createElement("span");
  range.className = "range";
  range.setAttribute("role", "status");
  const row = document.createElement("div");
  row.className = "tool-row";
  row.append(
    button("+", "Zoom in", () => view.zoom(0.5)),
    button("−", "Zoom out", () => view.zoom(2)),
    button("←", "Earlier", () => view.pan(-0.5)),
    button("→", "Later", () => view.pan(0.5)),
    button("All", "Show the whole capture", () => view.all()),
    range,
  );
  const hint = (kind, text) => {
    const made = document.createElement("p");
    made.className = `hint dim ${kind}`;
    made.textContent = text;
    return made;
  };
  const strip = hmtrace.strip(view, data);
  place.append(row, strip);
  place.after(
    hint("mouse", "Drag in a chart to zoom, double-click for all. Keys in a chart: arrows move, "
      + "+ and − zoom, shift and arrows go earlier and later, 0 shows all."),
    hint("touch", "Drag in the strip to choose a part; tap a chart for its values."),
  );
  place.hidden = false;

  view.onChange(() => {
    const whole = view.max - view.min >= view.end;
    range.textContent = whole
      ? `${words(view.end)}, all of it`
      : `${words(view.min)} – ${words(view.max)} of ${words(view.end)}`;
    row.querySelectorAll("button").forEach((one) => {
      one.disabled = whole && one.textContent !== "+";
    });
  });
};

// The whole capture, with a window on what is shown; drag in it to choose another part.
hmtrace.strip = (view, data) => {
  const NS = "http://www.w3.org/2000/svg";
  const WIDTH = 1000;
  const HEIGHT = 40;
  const make = (name, attributes, into) => {
    const made = document.createElementNS(NS, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    into.append(made);
    return made;
  };
  const x = (ns) => (ns / view.end) * WIDTH;
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "strip");
  svg.setAttribute("aria-hidden", "true");
  make("rect", { width: WIDTH, height: HEIGHT, class: "strip-paper" }, svg);

  const plot = data.plots.find((one) => one.unit !== "mark"
    && one.series.some((series) => series.values.some(Boolean)));
  if (plot) {
    const sums = plot.series[0].values.map((_, bin) => plot.series
      .filter((one, at) => at === 0 || one.stacked)
      .reduce((sum, one) => sum + one.values[bin], 0));
    const top = plot.ceiling || Math.max(...sums) || 1;
    const points = sums.flatMap((value, bin) => {
      const y = HEIGHT - Math.min(value / top, 1) * (HEIGHT - 6);
      return [`${x(bin * data.bin)},${y}`, `${x(Math.min((bin + 1) * data.bin, view.end))},${y}`];
    });
    make("polygon", {
      points: `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`, class: "strip-line",
    }, svg);
  }
  data.lost.forEach((gaps, bin) => {
    if (gaps) {
      make("rect", {
        x: x(bin * data.bin), width: Math.max(x(data.bin), 1), height: HEIGHT, class: "strip-lost",
      }, svg);
    }
  });
  data.findings.forEach((finding) => {
    make("rect", {
      x: x(finding.at) - 1.5, width: 3, height: HEIGHT, class: `strip-mark ${finding.severity}`,
    }, svg);
  });
  const shade = [make("rect", { y: 0, height: HEIGHT, class: "strip-shade" }, svg),
    make("rect", { y: 0, height: HEIGHT, class: "strip-shade" }, svg)];
  const frame = make("rect", { y: 1, height: HEIGHT - 2, class: "strip-window" }, svg);
  view.onChange(() => {
    shade[0].setAttribute("x", 0);
    shade[0].setAttribute("width", x(view.min));
    shade[1].setAttribute("x", x(view.max));
    shade[1].setAttribute("width", Math.max(WIDTH - x(view.max), 0));
    frame.setAttribute("x", x(view.min));
    frame.setAttribute("width", Math.max(x(view.max) - x(view.min), 2));
  });

  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * view.end;
  };
  let from = null;
  let inside = false;
  svg.addEventListener("pointerdown", (event) => {
    from = at(event);
    inside = view.max - view.min < view.end && from > view.min && from < view.max;
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (from === null) {
      return;
    }
    const to = at(event);
    if (inside) {
      view.pan((to - from) / (view.max - view.min));
      from = to;
    } else if (Math.abs(to - from) > view.end / 200) {
      view.set(Math.min(from, to), Math.max(from, to));
    }
  });
  svg.addEventListener("pointerup", (event) => {
    const to = at(event);
    if (from !== null && !inside && Math.abs(to - from) <= view.end / 200) {
      const half = (view.max - view.min) / 2;
      view.set(to - half, to + half); // a click brings the window there
    }
    from = null;
  });
  svg.addEventListener("dblclick", () => view.all());
  return svg;
};
