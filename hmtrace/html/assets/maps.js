"use strict";
// What is painted on a chart's canvas beside uPlot's lines: maps, marks, losses, moments.
hmtrace.paint = (() => {
  const LEAST = 70; // of 255: what is there at all is seen

  // Colours of the style sheet as numbers, looked up where the page's colours are known.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const faint = (name) => colour(name).replace(/^rgb\((.*)\)$/, "rgba($1, 0.25)");
  const channels = (name) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d");
    context.fillStyle = colour(name);
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  };

  const decoded = (layer) => {
    if (!layer.bytes) {
      const text = atob(layer.cells);
      layer.bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
    }
    return layer.bytes;
  };

  // Cells as an image, the lowest row at the bottom; later layers lie below earlier ones.
  const image = (plot, columns) => {
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = plot.rows;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, plot.rows);
    [...plot.layers].reverse().forEach((layer) => {
      const cells = decoded(layer);
      const [red, green, blue] = channels(layer.colour);
      for (let row = 0; row < plot.rows; row += 1) {
        const y = plot.rows - 1 - row;
        for (let column = 0; column < columns; column += 1) {
          const value = cells[row * columns + column];
          if (value) {
            const to = 4 * (y * columns + column);
            picture.data[to] = red;
            picture.data[to + 1] = green;
            picture.data[to + 2] = blue;
            picture.data[to + 3] = LEAST + (value / 255) * (255 - LEAST);
          }
        }
      }
    });
    context.putImageData(picture, 0, 0);
    return canvas;
  };

  const clipped = (u, draw) => {
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    draw(u.ctx);
    u.ctx.restore();
  };

  const map = (u, plot, data, picture, view) => clipped(u, (ctx) => {
    const first = Math.max(Math.floor(view.min / data.column), 0);
    const last = Math.min(Math.ceil(view.max / data.column), data.columns);
    const left = u.valToPos(first * data.column, "x", true);
    const right = u.valToPos(last * data.column, "x", true);
    ctx.imageSmoothingEnabled = false;
    const top = u.valToPos(plot.high, "y", true);
    const bottom = u.valToPos(plot.low, "y", true);
    ctx.drawImage(
      picture, first, 0, last - first, plot.rows, left, top, right - left, bottom - top,
    );
  });

  const marks = (u, plot, data) => clipped(u, (ctx) => {
    plot.series.forEach((series, row) => {
      const top = u.valToPos(plot.rows - row - 0.12, "y", true);
      const bottom = u.valToPos(plot.rows - row - 0.88, "y", true);
      ctx.fillStyle = colour(series.colour);
      series.values.forEach((number, bin) => {
        if (number) {
          const left = u.valToPos(bin * data.bin, "x", true);
          const right = u.valToPos((bin + 1) * data.bin, "x", true);
          ctx.fillRect(left, top, Math.max(right - left, 2 * devicePixelRatio), bottom - top);
        }
      });
    });
  });

  const losses = (u, data) => clipped(u, (ctx) => {
    ctx.fillStyle = colour("problem");
    ctx.globalAlpha = 0.3;
    data.lost.forEach((gaps, bin) => {
      if (gaps) {
        const left = u.valToPos(bin * data.bin, "x", true);
        const right = u.valToPos((bin + 1) * data.bin, "x", true);
        const wide = Math.max(right - left, 4 * devicePixelRatio);
        ctx.fillRect(left, u.bbox.top, wide, u.bbox.height);
      }
    });
  });

  const ceiling = (u, value) => clipped(u, (ctx) => {
    const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
    ctx.strokeStyle = colour("dim");
    ctx.setLineDash([6, 4]);
    ctx.beginPath();
    ctx.moveTo(u.bbox.left, y);
    ctx.lineTo(u.bbox.left + u.bbox.width, y);
    ctx.stroke();
  });

  // Where findings happened: a tick at the top, a line across for the one that is followed.
  const moments = (u, data, followed) => clipped(u, (ctx) => {
    data.findings.forEach((finding) => {
      const x = Math.round(u.valToPos(finding.at, "x", true));
      const chosen = finding.number === followed;
      const level = { problem: "problem", warning: "warning" }[finding.severity] || "fine";
      ctx.fillStyle = colour(level);
      const wide = (chosen ? 2 : 1) * devicePixelRatio;
      const tall = chosen ? u.bbox.height : 8 * devicePixelRatio;
      ctx.fillRect(x - wide / 2, u.bbox.top, wide, tall);
      if (chosen) {
        ctx.font = `bold ${12 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.textBaseline = "top";
        ctx.textAlign = "left";
        ctx.fillText(String(finding.number), x + 4 * devicePixelRatio, u.bbox.top + 2);
      }
    });
  });

  return { ceiling, colour, decoded, faint, image, losses, map, marks, moments };
})();
