"use strict";
// Figures as the report writes them.
const hmtrace = {};

hmtrace.format = (() => {
  const GLUE = "\u00a0";
  const TIMES = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];

  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, GLUE);

  const count = (value) => (Number.isInteger(value) ? grouped(value) : value.toFixed(1));

  const duration = (ns) => {
    for (const [unit, name] of TIMES) {
      if (Math.abs(ns) >= unit) {
        return `${(ns / unit).toFixed(1)}${GLUE}${name}`;
      }
    }
    return `${Math.round(ns)}${GLUE}ns`;
  };

  // A stretch of the trace, whose clock may count no time.
  const span = (ns, isTime) => (isTime ? duration(ns) : `${count(Math.round(ns))}${GLUE}ticks`);

  const size = (bytes) => {
    if (bytes === 0) {
      return "0";
    }
    if (bytes < 1 << 20) {
      return `${Math.round(bytes / 1024)}${GLUE}KiB`;
    }
    return `${Number((bytes / (1 << 20)).toFixed(2))}${GLUE}MiB`;
  };

  const address = (value) => Math.round(value).toString(16).padStart(8, "0");

  const share = (part) => `${(100 * part).toFixed(part && part < 0.1 ? 1 : 0)}${GLUE}%`;

  // A time stamp of the trace, whose start is too large for a number.
  const clock = (start, ns) => {
    const at = BigInt(start) + BigInt(Math.round(ns));
    const micro = (at % 1000000000n) / 1000n;
    return `${at / 1000000000n}.${String(micro).padStart(6, "0")}`;
  };

  // Labels of an axis of time: one unit for all, and as many digits as tell them apart.
  const times = (splits) => {
    const step = splits.length > 1 ? splits[1] - splits[0] : 1;
    const top = Math.max(...splits.map(Math.abs));
    const [unit, name] = TIMES.find(([factor]) => top >= factor) || [1, "ns"];
    let digits = 0;
    while (digits < 6 && Math.abs((step / unit) * 10 ** digits - Math.round((step / unit) * 10 ** digits)) > 1e-6) {
      digits += 1;
    }
    return splits.map((at) => (at ? `${(at / unit).toFixed(digits)}${GLUE}${name}` : "0"));
  };

  const by = { count, bytes: size, ns: duration, mark: count, slot: count, address };
  return { address, by, clock, count, duration, share, span, times };
})();
