// A chart of the throughput over time: one line, a filled area, few marks. Drawn as SVG, so it follows the colours.

import { s } from "./dom.js";
import { number, rate } from "./format.js";

const HEIGHT = 190;
const LEFT = 70;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 24;

/// The next round number of bytes a second: 1, 2 or 5 times a power of two units that labels show without fractions.
function ceiling(value) {
  let unit = 1;
  while (unit * 1024 <= value) unit *= 1024;
  for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024]) {
    if (step * unit >= value) return step * unit;
  }
  return 1024 * unit;
}

/// What is shown when little was measured yet; more, as it comes.
const SPANS = [120, 300, 600, 1800];

/// The shortest of the usual spans that holds all samples, in seconds.
export function spanOf(samples) {
  const first = samples.length > 0 ? Date.parse(samples[0].time) : Date.now();
  const needed = (Date.now() - first) / 1000;
  return SPANS.find((span) => span >= needed) ?? SPANS[SPANS.length - 1];
}

function past(seconds) {
  return seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

/// A chart of [{time, value}], oldest first, over the last `span` seconds.
export function areaChart({ samples, span, label, format = rate }) {
  // Drawn for the width that there is, so that letters have their size on a phone too.
  const WIDTH = window.innerWidth < 640 ? 400 : 720;
  const end = Date.now();
  const start = end - span * 1000;
  const points = samples.map(({ time, value }) => [Date.parse(time), number(value)]).filter(([time]) => time >= start);
  const highest = Math.max(0, ...points.map(([, value]) => value));
  const top = ceiling(Math.max(highest, 1024));
  const x = (time) => LEFT + ((time - start) / (end - start)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const line = points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
  const now = points.length > 0 ? points[points.length - 1][1] : 0;
  const words = points.length > 0
    ? `${label}: ${format(now)} now, ${format(highest)} at most of the last ${Math.round(span / 60)} minutes`
    : `${label}: nothing was measured yet`;
  const rows = [0, 0.5, 1].map((share) => [
    s("line.chart-grid", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(top * share), y2: y(top * share) }),
    s("text.chart-label", { x: LEFT - 8, y: y(top * share) + 4, "text-anchor": "end" }, share === 0 ? "0" : format(top * share)),
  ]);
  const marks = [0, 1, 2, 3].map((index) => {
    const time = start + ((end - start) * index) / 3;
    const anchor = index === 0 ? "start" : index === 3 ? "end" : "middle";
    const text = index === 3 ? "now" : past((end - time) / 1000);
    return s("text.chart-label", { x: x(time), y: HEIGHT - 6, "text-anchor": anchor }, text);
  });
  const area = line.length > 1
    ? [
      s("path.chart-area", { d: `M${line[0].split(",")[0]},${y(0)} L${line.join(" L")} L${line[line.length - 1].split(",")[0]},${y(0)} Z` }),
      s("path.chart-line", { d: `M${line.join(" L")}` }),
    ]
    : points.map(([time, value]) => s("circle.chart-dot", { cx: x(time), cy: y(value), r: 2.5 }));
  return s("svg.chart", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words }, rows, area, marks);
}
