/* Charts in SVG: few kinds, drawn anew at every snapshot. */
const SVG = "http://www.w3.org/2000/svg";
const tip = document.getElementById("tip");

function svg(name, attributes = {}, parent = null) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (parent) parent.append(made);
  return made;
}

function clock(s, seconds) {
  const time = new Date(1000 * s);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}` + (seconds ? `:${two(time.getSeconds())}` : "");
}

function day(s) {
  const time = new Date(1000 * s);
  return `${time.getDate()} ${time.toLocaleString("en", { month: "short" })}`;
}

/* Numbers people like on an axis: 1, 2 or 5 times a power of ten. */
function ticks(low, high, about) {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
  const made = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) made.push(n * step);
  return { made, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function timeTicks(low, high) {
  const steps = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
  const step = steps.find((s) => (high - low) / s <= 5) || Math.ceil((high - low) / 5 / 604800) * 604800;
  const zone = 60 * new Date(1000 * low).getTimezoneOffset(), made = [];
  for (let n = Math.ceil((low - zone) / step); n * step + zone <= high; n++) made.push(n * step + zone);
  return { made, text: (s) => (step >= 86400 ? day(s) : clock(s, step < 60)) };
}

/* What a chart shows when there is nothing to show. */
function empty(place, words) {
  place.replaceChildren(Object.assign(document.createElement("div"), { className: "none", textContent: words }));
}

/* A frame with axes. x, y: {low, high, label, time}; returns scales and the svg to draw in. */
function frame(place, x, y) {
  const width = place.clientWidth || 400, height = place.clientHeight || 172;
  const box = { left: 42, right: width - 10, top: 10, bottom: height - 32 };
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const X = (v) => box.left + ((v - x.low) / (x.high - x.low || 1)) * (box.right - box.left);
  const Y = (v) => box.bottom - ((v - y.low) / (y.high - y.low || 1)) * (box.bottom - box.top);
  const side = ticks(y.low, y.high, 5.5);
  for (const value of side.made) {
    svg("line", { class: "grid", x1: box.left, x2: box.right, y1: Y(value), y2: Y(value) }, root);
    svg("text", { x: box.left - 6, y: Y(value) + 3.5, "text-anchor": "end" }, root).textContent = value >= 10000 ? `${value / 1000} k` : value.toFixed(side.digits);
  }
  const below = x.time ? timeTicks(x.low, x.high) : { made: x.ticks, text: String };
  for (const value of below.made) {
    const words = below.text(value), edge = box.right - 3 * words.length;
    const text = svg("text", { x: Math.min(X(value), edge), y: box.bottom + 14, "text-anchor": "middle" }, root);
    text.textContent = words;
  }
  svg("text", { x: box.right, y: height - 4, "text-anchor": "end" }, root).textContent = x.label;
  place.replaceChildren(root);
  return { root, X, Y, box };
}

/* A dashed level with its name, above the line or below it where there is no room. */
function level(to, value, words, colour) {
  const y = to.Y(value);
  svg("line", { x1: to.box.left, x2: to.box.right, y1: y, y2: y, stroke: colour, "stroke-width": 1.5, "stroke-dasharray": "5 4" }, to.root);
  const text = svg("text", { class: "named", x: to.box.right, y: y < to.box.top + 14 ? y + 12 : y - 4, "text-anchor": "end" }, to.root);
  text.textContent = words;
  text.style.fill = colour;
}

function line(to, points, colour, width = 1.6) {
  const d = points.map(([x, y], n) => `${n ? "L" : "M"}${to.X(x).toFixed(1)} ${to.Y(y).toFixed(1)}`).join("");
  svg("path", { d, fill: "none", stroke: colour, "stroke-width": width, "stroke-linejoin": "round" }, to.root);
}

/* Show what is nearest to the pointer: marks are [x, text]. */
function hover(to, marks) {
  const rule = svg("line", { class: "grid", y1: to.box.top, y2: to.box.bottom, visibility: "hidden" }, to.root);
  to.root.onmousemove = (event) => {
    const at = event.clientX - to.root.getBoundingClientRect().left;
    let best = null;
    for (const mark of marks) if (!best || Math.abs(to.X(mark[0]) - at) < Math.abs(to.X(best[0]) - at)) best = mark;
    if (!best) return;
    rule.setAttribute("visibility", "visible");
    rule.setAttribute("x1", to.X(best[0]));
    rule.setAttribute("x2", to.X(best[0]));
    tip.textContent = best[1];
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  };
  to.root.onmouseleave = () => {
    tip.hidden = true;
    rule.setAttribute("visibility", "hidden");
  };
}

/* Force error of each generation with its interval, meV/Å, and the target. */
function errorChart(place, generations, target, milli) {
  const rows = generations.filter((row) => row.audit_force_mae_ev_ang !== null);
  if (!rows.length) return empty(place, "No audit labels yet: they are drawn at random from dynamics, and measure the error honestly.");
  const top = (row) => 1000 * Math.max(row.audit_force_mae_ev_ang, row.audit_force_mae_upper_ev_ang || 0);
  const median = rows.map((row) => 1000 * row.audit_force_mae_ev_ang).sort((a, b) => a - b)[rows.length >> 1];
  const high = 1.12 * Math.max(1000 * (target || 0), Math.min(Math.max(...rows.map(top)), 5 * Math.max(median, 1000 * (target || 0))));
  const first = rows[0].generation, last = rows[rows.length - 1].generation, every = Math.max(1, Math.ceil((last - first) / 10));
  const x = { low: first - 0.5, high: last + 0.5, label: "generation", ticks: [] };
  for (let n = first; n <= last; n += every) x.ticks.push(n);
  const to = frame(place, x, { low: 0, high });
  const clip = (value) => Math.min(value, high);
  if (rows.length > 1) line(to, rows.map((row) => [row.generation, clip(1000 * row.audit_force_mae_ev_ang)]), "var(--sky)", 1.2);
  for (const row of rows) {
    const at = to.X(row.generation);
    if (row.audit_force_mae_lower_ev_ang !== null) {
      const [a, b] = [to.Y(1000 * row.audit_force_mae_lower_ev_ang), to.Y(clip(1000 * row.audit_force_mae_upper_ev_ang))];
      svg("path", { d: `M${at} ${a}V${b}M${at - 4} ${a}h8M${at - 4} ${b}h8`, stroke: "var(--blue)", "stroke-width": 1.4, fill: "none" }, to.root);
    }
    svg("circle", { cx: at, cy: to.Y(clip(1000 * row.audit_force_mae_ev_ang)), r: 3.4, fill: "var(--blue)" }, to.root);
  }
  if (target) level(to, 1000 * target, `target ${milli(target)}`, "var(--green)");
  hover(to, rows.map((row) => [row.generation, `generation ${row.generation}: ${milli(row.audit_force_mae_ev_ang)} meV/Å\n`
    + (row.audit_force_mae_lower_ev_ang === null ? "no interval yet" : `95 % ${milli(row.audit_force_mae_lower_ev_ang)} to ${milli(row.audit_force_mae_upper_ev_ang)}`)
    + `\n${row.n_audit} audit frames, ${row.n_labels} labels learnt`]));
}

/* Mean and maximum of the walkers' disagreement, eV/Å, in the course of time. */
function disagreementChart(place, told, threshold) {
  const points = told.points;
  if (!points.length) return empty(place, "No dynamics yet: walkers start when the first committee is trained.");
  const tops = points.map((p) => p[2]).sort((a, b) => a - b), usual = tops[Math.floor(0.98 * (tops.length - 1))];
  const high = 1.15 * Math.max(threshold || 0, Math.min(tops[tops.length - 1], 3 * Math.max(usual, threshold || 0)), 1e-6);
  const half = told.width_s / 2, x = { low: points[0][0], high: points[points.length - 1][0] + told.width_s, label: "time of day", time: true };
  const to = frame(place, x, { low: 0, high });
  line(to, points.map((p) => [p[0] + half, Math.min(p[2], high)]), "var(--sky)", 1.3);
  line(to, points.map((p) => [p[0] + half, Math.min(p[1], high)]), "var(--blue)", 1.9);
  if (threshold) level(to, threshold, `threshold ${threshold}`, "var(--red)");
  key(to, [["largest", "var(--sky)"], ["mean", "var(--blue)"]]);
  hover(to, points.map((p) => [p[0] + half, `${clock(p[0], true)}\nmean ${p[1].toFixed(3)}, largest ${p[2].toFixed(3)} eV/Å`]));
}

function key(to, entries) {
  let x = to.box.left;
  const y = to.box.bottom + 28;
  for (const [words, colour] of entries) {
    svg("line", { x1: x, x2: x + 14, y1: y - 3.5, y2: y - 3.5, stroke: colour, "stroke-width": 2.4 }, to.root);
    svg("text", { x: x + 18, y }, to.root).textContent = words;
    x += 30 + 6 * words.length;
  }
}

/* Labels an hour in equal stretches of time. */
function labelChart(place, told, now) {
  const counts = new Map(told.counts);
  if (!counts.size) return empty(place, "No labels yet.");
  const first = told.counts[0][0], last = told.counts[told.counts.length - 1][0];
  let width = told.width_s;
  while ((last + width - first) / width > 40) width *= 2;
  const begin = Math.floor(first / width) * width, bars = [];
  for (let at = begin; at <= last; at += width) {
    let count = 0;
    for (let inner = at; inner < at + width; inner += told.width_s) count += counts.get(inner) || 0;
    const seconds = Math.max(Math.min(width, now - at), told.width_s);
    bars.push([at, (3600 * count) / seconds, count]);
  }
  const high = 1.12 * Math.max(...bars.map((bar) => bar[1]));
  const to = frame(place, { low: begin, high: last + width, label: "time of day", time: true }, { low: 0, high });
  for (const [at, rate] of bars) {
    const [a, b] = [to.X(at), to.X(at + width)];
    svg("rect", { x: a + 0.5, width: Math.max(1, b - a - 1), y: to.Y(rate), height: to.box.bottom - to.Y(rate), fill: "var(--blue)", rx: 1 }, to.root);
  }
  hover(to, bars.map(([at, rate, count]) => [at + width / 2, `from ${clock(at, true)}\n${count} labels, ${rate.toFixed(0)} per hour`]));
}

/* The disagreement of a walker's last segments beside the threshold. */
function spark(root, trace, threshold) {
  const high = 1.1 * Math.max(threshold || 0, ...trace, 1e-9), Y = (v) => 16 - (15 * v) / high;
  const X = (n) => 2 + (n * 106) / 23;
  const d = trace.map((v, n) => `${n ? "L" : "M"}${X(n).toFixed(1)} ${Y(v).toFixed(1)}`).join("");
  const level = threshold ? `M0 ${Y(threshold).toFixed(1)}H112` : "";
  if (root.dataset.d === d + level) return;
  root.dataset.d = d + level;
  root.replaceChildren();
  svg("path", { d: level, stroke: "var(--red)", "stroke-width": 1, "stroke-dasharray": "2 2", fill: "none" }, root);
  svg("path", { d, stroke: "var(--blue)", "stroke-width": 1.4, fill: "none", "stroke-linejoin": "round" }, root);
  if (trace.length) {
    const end = trace.length - 1, above = threshold && trace[end] > threshold;
    svg("circle", { cx: X(end), cy: Y(trace[end]), r: 2, fill: above ? "var(--red)" : "var(--blue)" }, root);
  }
}
