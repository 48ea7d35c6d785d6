"use strict";
// Charts: uPlot's axes, lines, cursor and selection over one time, and what is painted on them.
hmtrace.Chart = class {
  constructor(plot, figure, shared) {
    this.plot = plot;
    this.shared = shared;
    this.figure = figure;
    this.area = figure.querySelector(".plot-area");
    this.isMap = plot.layers.length > 0;
    this.isMarks = plot.unit === "mark";
    this.picture = null;
    this.low = plot.low; // of a map: the part that is shown
    this.high = plot.high;
    this.columns = this.arrange();
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.u = new uPlot(this.options(), this.columns, this.area);
    this.u.over.append(this.tip);
    this.u.over.addEventListener("mousedown", () => { shared.dragged = this; });
    this.u.over.addEventListener("mouseenter", () => { shared.hovered = this; });
    this.u.over.addEventListener("mouseleave", () => {
      shared.hovered = null;
      this.tip.hidden = true;
    });
  }

  // Columns as uPlot wants them: times of bins' starts, then what is drawn last first.
  arrange() {
    const { data } = this.shared;
    if (this.isMap || this.isMarks) {
      return [[0, data.end], [this.plot.low, this.plot.high]];
    }
    const times = Array.from({ length: data.bins + 1 }, (_, bin) => Math.min(bin * data.bin, data.end));
    const closed = (values) => [...values, values[values.length - 1]];
    let below = new Array(data.bins).fill(0);
    const stacked = this.plot.series.filter((one) => one.stacked).map((one) => {
      // Both are the most of a bin, perhaps at different times: together never more than there are.
      below = below.map((sum, bin) => Math.min(sum + one.values[bin], this.plot.ceiling || Infinity));
      return { ...one, drawn: closed(below) };
    });
    const lines = this.plot.series.filter((one) => !one.stacked)
      .map((one) => ({ ...one, drawn: closed(one.values) }));
    this.drawn = [...stacked.reverse(), ...lines];
    return [times, ...this.drawn.map((one) => one.drawn)];
  }

  options() {
    const { colour } = hmtrace.paint;
    const { data, view } = this.shared;
    const { format } = hmtrace;
    const axis = {
      stroke: () => colour("dim"),
      font: "11px system-ui, sans-serif",
      grid: { stroke: () => colour("rule"), width: 1 },
      ticks: { stroke: () => colour("rule"), width: 1, size: 4 },
    };
    return {
      width: this.width(),
      height: this.height(),
      padding: [6, 12, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, range: () => [view.min, view.max] },
        y: { range: () => [this.low, this.top()] },
      },
      axes: [
        {
          ...axis,
          size: 26,
          space: 90,
          values: (_, splits) => (data.isTime ? format.times(splits) : splits.map(format.count)),
        },
        { ...axis, size: 66, ...this.scaleWords() },
      ],
      series: [{}, ...this.lines()],
      cursor: {
        y: this.isMap,
        points: { show: false },
        sync: { key: "hmtrace", scales: ["x", null] },
        drag: { x: true, y: this.isMap, uni: 24, setScale: false },
        bind: { dblclick: () => () => { this.whole(); return null; } },
      },
      hooks: {
        drawClear: [(u) => hmtrace.paint.losses(u, data)],
        drawAxes: [(u) => this.paint(u)],
        draw: [(u) => this.paintOver(u)],
        setCursor: [() => this.tell()],
        setSelect: [(u) => this.selected(u)],
      },
    };
  }

  lines() {
    const { colour, faint } = hmtrace.paint;
    if (!this.drawn) {
      return [{ paths: () => null, points: { show: false } }];
    }
    const paths = uPlot.paths.stepped({ align: 1 });
    return this.drawn.map((one) => ({
      label: one.label,
      paths,
      points: { show: false },
      width: one.stacked ? 1 : 1.5,
      stroke: () => colour(one.colour),
      fill: this.fill(one, colour, faint),
    }));
  }

  fill(one, colour, faint) {
    if (one.stacked) {
      return () => colour(one.colour);
    }
    return this.drawn.length === 1 ? () => faint(one.colour) : undefined;
  }

  scaleWords() {
    const { by } = hmtrace.format;
    if (this.isMarks) {
      return {
        splits: () => this.plot.rowWords.map((_, row) => row + 0.5),
        values: () => [...this.plot.rowWords].reverse(),
        grid: { show: false },
        ticks: { show: false },
      };
    }
    if (this.plot.unit === "ns") {
      return { values: (_, splits) => hmtrace.format.times(splits) };
    }
    const words = by[this.plot.unit];
    if (this.plot.unit === "address" || this.plot.unit === "bytes") {
      return { splits: (u, _, low, high) => this.evenSplits(low, high, u), values: (_, s) => s.map(words) };
    }
    const whole = this.plot.unit === "count" || this.plot.unit === "slot";
    return { incrs: whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] : undefined,
      values: (_, splits) => splits.map(words) };
  }

  // Powers of two, as addresses and sizes go.
  evenSplits(low, high, u) {
    const most = Math.max(2, Math.floor(u.height / 48));
    let step = 4096;
    while ((high - low) / step > most) {
      step *= 2;
    }
    const splits = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
      splits.push(at);
    }
    return splits;
  }

  top() {
    if (this.isMap || this.isMarks) {
      return this.high;
    }
    if (this.most === undefined) {
      this.most = Math.max(this.plot.ceiling || 0, ...this.drawn.map((one) => Math.max(...one.drawn)));
    }
    return (this.most || 1) * 1.04;
  }

  width() {
    return this.shared.paper || Math.max(this.area.clientWidth, 240);
  }

  height() {
    if (this.isMarks) {
      return 40 + 22 * this.plot.rows;
    }
    return this.isMap ? 260 : 170;
  }

  resize() {
    this.u.setSize({ width: this.width(), height: this.height() });
  }

  recolour() {
    this.picture = null;
    this.u.redraw(false, true);
  }

  show() {
    this.u.batch(() => {
      this.u.setScale("x", { min: this.shared.view.min, max: this.shared.view.max });
      this.u.setScale("y", { min: this.low, max: this.top() });
    });
  }

  paint(u) {
    const { data, view } = this.shared;
    if (this.isMap) {
      this.picture = this.picture || hmtrace.paint.image(this.plot, data.columns);
      hmtrace.paint.map(u, this.plot, data, this.picture, view);
    } else if (this.isMarks) {
      hmtrace.paint.marks(u, this.plot, data);
    }
  }

  paintOver(u) {
    if (this.plot.ceiling) {
      hmtrace.paint.ceiling(u, this.plot.ceiling);
    }
    hmtrace.paint.moments(u, this.shared.data, this.shared.followed);
  }

  selected(u) {
    const { left, top, width, height } = u.select;
    if (this.shared.dragged !== this || (width <= 4 && height <= 4)) {
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false); // another chart's, shown here too
      return;
    }
    const from = u.posToVal(left, "x");
    const to = u.posToVal(left + width, "x");
    if (this.isMap && height > 4 && height < u.over.clientHeight - 1) {
      const least = (this.plot.high - this.plot.low) / this.plot.rows;
      const low = u.posToVal(top + height, "y");
      const high = Math.max(u.posToVal(top, "y"), low + 2 * least);
      this.low = Math.max(low, this.plot.low);
      this.high = Math.min(high, this.plot.high);
    }
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.shared.view.set(width > 4 ? from : this.shared.view.min, width > 4 ? to : this.shared.view.max);
  }

  // Everything, of this chart's addresses too.
  whole() {
    this.low = this.plot.low;
    this.high = this.plot.high;
    this.shared.view.all();
  }

  // What is at a time, and in a map at a place: rows of label, value and colour.
  at(ns, place = null) {
    const { data } = this.shared;
    const { format } = hmtrace;
    const bin = Math.min(Math.max(Math.floor(ns / data.bin), 0), data.bins - 1);
    if (!this.isMap) {
      const words = format.by[this.plot.unit];
      return this.plot.series.map((one) => [one.label, words(one.values[bin]), one.colour]);
    }
    const column = Math.min(Math.max(Math.floor(ns / data.column), 0), data.columns - 1);
    const { rows, low, high } = this.plot;
    if (place === null) {
      return this.plot.layers.map((layer) => {
        const cells = hmtrace.paint.decoded(layer);
        let sum = 0;
        for (let row = 0; row < rows; row += 1) {
          sum += cells[row * data.columns + column];
        }
        return [layer.label, format.share(sum / rows / 255), layer.colour];
      });
    }
    const row = Math.min(Math.max(Math.floor(((place - low) / (high - low)) * rows), 0), rows - 1);
    const edge = (at) => low + (at * (high - low)) / rows;
    const isSlot = this.plot.unit === "slot";
    const slots = [Math.ceil(edge(row)), Math.max(Math.ceil(edge(row + 1)) - 1, Math.ceil(edge(row)))];
    const where = isSlot
      ? slots[0] === slots[1] ? `slot ${slots[0]}` : `slots ${slots[0]} – ${slots[1]}`
      : `${format.address(edge(row))} – ${format.address(edge(row + 1))}`;
    return [[where, "", ""], ...this.plot.layers.map((layer) => {
      const cell = hmtrace.paint.decoded(layer)[row * data.columns + column];
      return [layer.label, format.share(cell / 255), layer.colour];
    })];
  }

  // The tooltip, at the chart that the pointer is in.
  tell() {
    const { shared } = this;
    const { left, top } = this.u.cursor;
    if (shared.hovered !== this || left < 0) {
      this.tip.hidden = true;
      return;
    }
    const ns = this.u.posToVal(left, "x");
    const place = this.isMap ? this.u.posToVal(top, "y") : null;
    this.tip.replaceChildren(...[[shared.when(ns), "", ""], ...this.at(ns, place)]
      .map(([label, value, colour]) => {
        const line = document.createElement("div");
        if (colour) {
          const swatch = document.createElement("i");
          swatch.className = `swatch ink-${colour}`;
          line.append(swatch);
        }
        line.append(label, value && ": ");
        const figure = document.createElement("b");
        figure.textContent = value;
        line.append(figure);
        return line;
      }));
    this.tip.hidden = false;
    const room = this.u.over.clientWidth;
    const wide = this.tip.offsetWidth;
    const beside = left + 14 + wide > room ? left - 14 - wide : left + 14;
    this.tip.style.left = `${Math.max(Math.min(beside, room - wide), -60)}px`;
    this.tip.style.top = "4px";
  }
};
