"use strict";
// The timeline: charts that show the same time, findings that lead there, values as tables.
(() => {
  const ROWS = 40; // of a table of values
  const AROUND = 12; // bins shown at each side of a finding

  const element = document.getElementById("data");
  const place = document.getElementById("time-tools");
  if (!element || !place || typeof uPlot === "undefined") {
    return;
  }
  const data = JSON.parse(element.textContent);
  const { format } = hmtrace;
  const view = new hmtrace.View(data);
  const shared = {
    data, view, hovered: null, dragged: null, followed: null, paper: 0,
    when: (ns) => format.span(ns, data.isTime)
      + (data.isTime ? ` (${format.clock(data.start, ns)})` : ""),
  };
  const charts = data.plots.map(
    (plot) => new hmtrace.Chart(plot, document.getElementById(plot.id), shared),
  );
  const status = document.createElement("p");
  status.className = "unseen";
  status.setAttribute("role", "status");
  place.before(status);
  hmtrace.tools(view, data, place);

  // Values as a table: as many rows as are read, each the most of its time.
  const table = (chart) => {
    const made = document.createElement("table");
    made.className = "grid";
    const head = made.createTHead().insertRow();
    const body = made.createTBody();
    const series = chart.isMap ? chart.plot.layers : chart.plot.series;
    ["from", ...series.map((one) => one.label)].forEach((title, at) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = at ? "right" : "";
      cell.textContent = title;
      head.append(cell);
    });
    const step = chart.isMap ? data.column : data.bin;
    const first = Math.floor(view.min / step);
    const last = Math.max(Math.ceil(view.max / step), first + 1);
    const each = Math.ceil((last - first) / ROWS);
    for (let bin = first; bin < last; bin += each) {
      const row = body.insertRow();
      row.insertCell().textContent = shared.when(bin * step);
      series.forEach((one, at) => {
        const cell = row.insertCell();
        cell.className = "right";
        cell.textContent = chart.isMap
          ? chart.at((bin + 0.5) * step)[at][1]
          : format.by[chart.plot.unit](Math.max(...one.values.slice(bin, bin + each)));
      });
    }
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    scroll.append(made);
    return scroll;
  };

  charts.forEach((chart) => {
    const details = chart.figure.querySelector(".plot-data");
    const fill = () => {
      details.querySelectorAll(".scroll").forEach((old) => old.remove());
      if (details.open) {
        details.append(table(chart));
      }
    };
    details.hidden = false;
    details.addEventListener("toggle", fill);
    view.onChange(fill);

    const { area } = chart;
    area.removeAttribute("aria-hidden");
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-roledescription", "chart");
    area.setAttribute("aria-label", `${chart.figure.querySelector("strong").textContent}: `
      + chart.figure.querySelector(".plot-words").textContent);
    let at = null;
    let place = null; // of a map: the row that the arrows up and down have come to
    const move = (bins, rows = 0) => {
      const step = chart.isMap ? data.column : data.bin;
      if (rows && chart.isMap) {
        const row = (chart.plot.high - chart.plot.low) / chart.plot.rows;
        const from = place === null ? (chart.low + chart.high) / 2 : place + rows * row;
        place = Math.min(Math.max(from, chart.low + row / 2), chart.high - row / 2);
      }
      at = at === null || at < view.min || at > view.max ? (view.min + view.max) / 2 : at + bins * step;
      at = Math.min(Math.max(at, view.min), view.max);
      shared.hovered = chart;
      chart.u.setCursor({
        left: chart.u.valToPos(at, "x"),
        top: place === null ? 10 : chart.u.valToPos(place, "y"),
      });
      const rowsAt = chart.at(at, place).map(([label, value]) => (value ? `${label}: ${value}` : label));
      status.textContent = [shared.when(at), ...rowsAt].join(", ");
    };
    const keys = {
      ArrowLeft: (event) => (event.shiftKey ? view.pan(-0.5) : move(-1)),
      ArrowRight: (event) => (event.shiftKey ? view.pan(0.5) : move(1)),
      ArrowUp: () => move(0, 1),
      ArrowDown: () => move(0, -1),
      "+": () => view.zoom(0.5, at ?? undefined),
      "=": () => view.zoom(0.5, at ?? undefined),
      "-": () => view.zoom(2, at ?? undefined),
      0: () => chart.whole(),
      Home: () => chart.whole(),
      Escape: () => follow(null),
    };
    area.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      const isPage = event.key.startsWith("Arrow") && !chart.isMap && /Up|Down/.test(event.key);
      if (act && !isPage && !event.ctrlKey && !event.altKey && !event.metaKey) {
        event.preventDefault();
        act(event);
      }
    });
    area.addEventListener("blur", () => {
      if (shared.hovered === chart) {
        shared.hovered = null;
        chart.tell();
      }
    });
  });

  const go = (moment) => {
    view.set(moment.at - AROUND * data.bin, moment.at + AROUND * data.bin);
    status.textContent = moment.words;
    const section = document.getElementById("timeline");
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  };

  const follow = (finding) => {
    shared.followed = finding && finding.number;
    document.querySelectorAll(".finding.followed").forEach((one) => one.classList.remove("followed"));
    if (!finding) {
      view.set(view.min, view.max);
      return;
    }
    document.getElementById(`finding-${finding.number}`).classList.add("followed");
    go({ at: finding.at, words: `Finding ${finding.number} at ${shared.when(finding.at)}` });
  };
  // The time of a long call leads to its place, too.
  document.querySelectorAll("#longest-calls tbody th[data-v]").forEach((cell) => {
    const at = Number(BigInt(cell.dataset.v) - BigInt(data.start));
    if (at < 0 || at > data.end) {
      return;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "to-time link";
    button.title = "On the timeline";
    button.append(...cell.childNodes);
    button.addEventListener("click", () => go({ at, words: `Call at ${shared.when(at)}` }));
    cell.append(button);
  });
  document.querySelectorAll("a.to-time").forEach((link) => {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      follow(data.findings.find((one) => one.number === Number(link.dataset.finding)));
    });
  });

  view.onChange(() => charts.forEach((chart) => chart.show()));
  view.all();
  document.addEventListener("hmtrace-theme", () => charts.forEach((chart) => chart.recolour()));
  const fit = () => charts.forEach((chart) => chart.resize());
  if (charts.length) {
    new ResizeObserver(() => {
      if (!shared.paper) {
        fit();
      }
    }).observe(charts[0].area);
  }
  addEventListener("beforeprint", () => {
    shared.paper = 900;
    fit();
  });
  addEventListener("afterprint", () => {
    shared.paper = 0;
    fit();
  });
})();
