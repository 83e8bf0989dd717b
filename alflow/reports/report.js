"use strict";
// The map of the data set and the structure beside it. No library: two canvases and the arithmetic of a rotation.
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const xy = new Float32Array(bytes(data.xy));
  const positions = new Int16Array(bytes(data.positions));
  const numbers = new Uint8Array(bytes(data.numbers));
  const n = data.sizes.length;
  const starts = [0];
  for (const size of data.sizes) starts.push(starts[starts.length - 1] + size);

  const map = document.getElementById("map");
  const viewer = document.getElementById("viewer");
  const select = document.getElementById("map-color");
  const legend = document.getElementById("map-legend");
  const facts = document.getElementById("map-facts");
  const ramp = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [240, 220, 60]];
  const wheel = ["blue", "amber", "teal", "violet", "red", "gray"];
  const units = { energy: "meV/atom", error: "meV/Å", disagreement: "eV/Å" };

  let shown = Math.max(0, data.error.findIndex((value) => value === finite(data.error)[1]));
  let pinned = false;
  let turn = [];
  facing(shown);
  let zoom = 1;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function finite(values) {
    const known = values.filter((value) => value !== null);
    return [Math.min(...known), Math.max(...known)];
  }

  function rampColor(share) {
    const place = Math.min(0.9999, Math.max(0, share)) * (ramp.length - 1);
    const k = Math.floor(place);
    const mix = ramp[k].map((from, c) => Math.round(from + (place - k) * (ramp[k + 1][c] - from)));
    return `rgb(${mix.join(",")})`;
  }

  function scaleOf(values) {
    const known = values.filter((value) => value !== null).sort((a, b) => a - b);
    const at = (q) => known[Math.min(known.length - 1, Math.floor(q * known.length))];
    const [low, high] = [at(0.01), at(0.99)];
    return [low, high > low ? high : low + 1e-12];
  }

  // Colors of all points, made anew when the choice or the color scheme changes.
  let colors = [];
  function paint() {
    const by = select.value;
    legend.textContent = "";
    const entry = (color, text) => {
      const item = document.createElement("span");
      const dot = document.createElement("i");
      dot.style.background = color;
      item.append(dot, text);
      legend.append(item);
    };
    if (by === "part") {
      colors = data.parts.map((part) => data.partColors[part] || style("gray"));
      for (const part of Object.keys(data.partColors)) {
        const count = data.parts.filter((other) => other === part).length;
        if (count) entry(data.partColors[part], `${part} (${count})`);
      }
    } else if (by === "generation") {
      const last = Math.max(...data.generation);
      const few = last < wheel.length;
      const color = (g) => (few ? style(wheel[g]) : rampColor(g / last));
      colors = data.generation.map(color);
      for (const g of few ? [...new Set(data.generation)].sort((a, b) => a - b) : [0, last]) {
        entry(color(g), g === 0 ? "before any" : `${g}`);
      }
    } else {
      const [low, high] = scaleOf(data[by]);
      colors = data[by].map((value) => (value === null ? style("grid") : rampColor((value - low) / (high - low))));
      const bar = document.createElement("span");
      bar.className = "ramp";
      bar.style.background = `linear-gradient(90deg, ${ramp.map((c) => `rgb(${c.join(",")})`).join(",")})`;
      legend.append(low.toPrecision(3), bar, `${high.toPrecision(3)} ${units[by]}`);
      if (data[by].includes(null)) entry(style("grid"), "not known");
    }
  }

  function fit(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = canvas.getBoundingClientRect();
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return [context, width, height];
  }

  let spots = [];
  function drawMap() {
    const [context, width, height] = fit(map);
    const ends = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < n; i++) {
      ends[0] = Math.min(ends[0], xy[2 * i]); ends[1] = Math.max(ends[1], xy[2 * i]);
      ends[2] = Math.min(ends[2], xy[2 * i + 1]); ends[3] = Math.max(ends[3], xy[2 * i + 1]);
    }
    const margin = 30;
    const spanX = ends[1] - ends[0] || 1;
    const spanY = ends[3] - ends[2] || 1;
    spots = [];
    for (let i = 0; i < n; i++) {
      spots.push([
        margin + ((xy[2 * i] - ends[0]) / spanX) * (width - 2 * margin),
        height - margin - ((xy[2 * i + 1] - ends[2]) / spanY) * (height - 2 * margin),
      ]);
    }
    const radius = n > 800 ? 2.6 : n > 200 ? 3.4 : 4.6;
    context.globalAlpha = 0.8;
    for (let i = 0; i < n; i++) {
      context.fillStyle = colors[i];
      context.beginPath();
      context.arc(spots[i][0], spots[i][1], radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    context.strokeStyle = style("ink");
    context.lineWidth = pinned ? 2.5 : 1.5;
    context.beginPath();
    context.arc(spots[shown][0], spots[shown][1], radius + 4, 0, 7);
    context.stroke();
    context.fillStyle = style("muted");
    context.font = `12px ${style("sans")}`;
    const share = data.explained.map((value) => `${Math.round(100 * value)} %`);
    context.fillText(`first component, ${share[0]} of the variance →`, 10, height - 9);
    context.save();
    context.translate(16, height - 30);
    context.rotate(-Math.PI / 2);
    context.fillText(`second, ${share[1]} →`, 0, 0);
    context.restore();
  }

  function atomsOf(i) {
    const atoms = [];
    for (let a = starts[i]; a < starts[i + 1]; a++) {
      const at = [0, 1, 2].map((axis) => positions[3 * a + axis] * data.scale);
      atoms.push({ at, kind: data.elements[numbers[a]] });
    }
    return atoms;
  }

  const rotated = (p) => [0, 3, 6].map((row) => turn[row] * p[0] + turn[row + 1] * p[1] + turn[row + 2] * p[2]);

  function cellEdges(cell) {
    const corner = (i, j, k) => [0, 1, 2].map((x) => i * cell[x] + j * cell[3 + x] + k * cell[6 + x]);
    const edges = [];
    for (let a = 0; a < 2; a++) for (let b = 0; b < 2; b++) {
      edges.push([corner(0, a, b), corner(1, a, b)], [corner(a, 0, b), corner(a, 1, b)], [corner(a, b, 0), corner(a, b, 1)]);
    }
    return edges;
  }

  function drawViewer() {
    const [context, width, height] = fit(viewer);
    const atoms = atomsOf(shown);
    const edges = data.cells && data.cells[shown] ? cellEdges(data.cells[shown]) : [];
    const points = [...atoms.map((atom) => atom.at), ...edges.flat()];
    const middle = [0, 1, 2].map((axis) => {
      const values = points.map((p) => p[axis]);
      return 0.5 * (Math.min(...values) + Math.max(...values));
    });
    const from = (p) => rotated([p[0] - middle[0], p[1] - middle[1], p[2] - middle[2]]);
    const reach = 0.9 + Math.max(...points.map((p) => Math.hypot(p[0] - middle[0], p[1] - middle[1], p[2] - middle[2])));
    const scale = (zoom * 0.48 * Math.min(width, height)) / reach;
    const screen = (p) => [width / 2 + scale * p[0], height / 2 - scale * p[1]];
    const placed = atoms.map((atom) => ({ kind: atom.kind, at: from(atom.at) }));
    const things = placed.map((atom) => ({ depth: atom.at[2], atom }));
    for (let a = 0; a < placed.length; a++) for (let b = 0; b < a; b++) {
      const [p, q] = [placed[a].at, placed[b].at];
      const apart = Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
      if (apart < 1.25 * (placed[a].kind.radius + placed[b].kind.radius)) {
        things.push({ depth: 0.5 * (p[2] + q[2]) - 0.01, bond: [p, q] });
      }
    }
    for (const [p, q] of edges) {
      const ends = [from(p), from(q)];
      things.push({ depth: 0.5 * (ends[0][2] + ends[1][2]), edge: ends });
    }
    things.sort((a, b) => a.depth - b.depth);
    context.lineCap = "round";
    for (const thing of things) {
      if (thing.atom) {
        const [x, y] = screen(thing.atom.at);
        const r = Math.max(2, scale * (0.18 + 0.3 * thing.atom.kind.radius));
        const shade = context.createRadialGradient(x - 0.35 * r, y - 0.35 * r, 0.1 * r, x, y, r);
        shade.addColorStop(0, "#ffffff");
        shade.addColorStop(0.35, thing.atom.kind.color);
        shade.addColorStop(1, thing.atom.kind.color);
        context.fillStyle = shade;
        context.strokeStyle = "rgba(0,0,0,0.45)";
        context.lineWidth = 0.8;
        context.beginPath();
        context.arc(x, y, r, 0, 7);
        context.fill();
        context.stroke();
      } else {
        const [p, q] = (thing.bond || thing.edge).map(screen);
        context.strokeStyle = thing.bond ? style("gray") : style("grid");
        context.lineWidth = thing.bond ? Math.max(1.5, 0.14 * scale) : 1.2;
        context.beginPath();
        context.moveTo(p[0], p[1]);
        context.lineTo(q[0], q[1]);
        context.stroke();
      }
    }
  }

  function tell() {
    const i = shown;
    const number = (value, unit) => (value === null ? null : `${value} ${unit}`);
    const lines = [
      ["structure", `${data.formulas[i]} (${data.ids[i]}…)`],
      ["frame", data.frames[i]],
      ["part", data.parts[i]],
      ["generation", data.generation[i] || "before any"],
      ["energy", number(data.energy[i], "meV/atom above the lowest")],
      ["force error", number(data.error[i], "meV/Å, active committee")],
      ["disagreement", number(data.disagreement[i], "eV/Å when seen")],
    ];
    facts.textContent = "";
    for (const [what, value] of lines) {
      if (value === null || value === "") continue;
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = what;
      dd.textContent = value;
      facts.append(dt, dd);
    }
  }

  function choose(i) {
    shown = i;
    drawMap();
    drawViewer();
    tell();
  }

  function nearest(event) {
    const box = map.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, far] = [-1, 400];
    spots.forEach(([sx, sy], i) => {
      const d = (sx - x) ** 2 + (sy - y) ** 2;
      if (d < far) [best, far] = [i, d];
    });
    return best;
  }

  function orthonormalize() {
    const rows = [0, 3, 6].map((k) => turn.slice(k, k + 3));
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const unit = (a) => a.map((value) => value / Math.sqrt(dot(a, a)));
    rows[0] = unit(rows[0]);
    rows[1] = unit(rows[1].map((value, k) => value - dot(rows[0], rows[1]) * rows[0][k]));
    const [a, b] = rows;
    rows[2] = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    turn = rows.flat();
  }

  // Seen so that its longest extent lies level and the atom farthest from that line points up.
  function facing(i) {
    const points = [];
    for (let a = starts[i]; a < starts[i + 1] && points.length < 300; a++) {
      points.push([0, 1, 2].map((axis) => positions[3 * a + axis]));
    }
    const less = (p, q) => p.map((value, axis) => value - q[axis]);
    const dot = (p, q) => p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
    let longest = [1, 0, 0];
    let origin = points[0];
    for (const p of points) for (const q of points) {
      const apart = less(p, q);
      if (dot(apart, apart) > dot(longest, longest)) [longest, origin] = [apart, q];
    }
    let up = [0, 1, 0.001];
    let far = 0;
    for (const p of points) {
      const from = less(p, origin);
      const along = dot(from, longest) / dot(longest, longest);
      const aside = from.map((value, axis) => value - along * longest[axis]);
      if (dot(aside, aside) > far) [up, far] = [aside, dot(aside, aside)];
    }
    turn = [...longest, ...up, 0, 0, 0];
    if (!far) turn = [...longest, -longest[1] || 1, longest[0], 0.001 + longest[2] * 0.1, 0, 0, 0];
    orthonormalize();
  }

  function spin(dx, dy) {
    const [cx, sx, cy, sy] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
    const rows = [0, 3, 6].map((k) => turn.slice(k, k + 3));
    const about = rows[0].map((value, k) => cx * value + sx * rows[2][k]);
    const depth = rows[2].map((value, k) => cx * value - sx * rows[0][k]);
    const up = rows[1].map((value, k) => cy * value + sy * depth[k]);
    turn = [...about, ...up, ...depth.map((value, k) => cy * value - sy * rows[1][k])];
    orthonormalize();
    drawViewer();
  }

  map.addEventListener("pointermove", (event) => {
    const i = pinned ? -1 : nearest(event);
    if (i >= 0 && i !== shown) choose(i);
  });
  map.addEventListener("click", (event) => {
    const i = nearest(event);
    pinned = i >= 0 && !(pinned && i === shown);
    choose(i >= 0 ? i : shown);
  });
  map.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
    const steps = { n: 1, N: 1, p: -1, P: -1 };
    if (turns[event.key]) spin(...turns[event.key]);
    else if (steps[event.key]) { pinned = true; choose((shown + steps[event.key] + n) % n); }
    else if (event.key === "+" || event.key === "-") { zoom *= event.key === "+" ? 1.15 : 1 / 1.15; drawViewer(); }
    else return;
    event.preventDefault();
  });
  let held = null;
  viewer.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; viewer.setPointerCapture(event.pointerId); });
  viewer.addEventListener("pointerup", () => { held = null; });
  viewer.addEventListener("pointermove", (event) => {
    if (!held) return;
    spin(0.01 * (event.clientX - held[0]), 0.01 * (event.clientY - held[1]));
    held = [event.clientX, event.clientY];
  });
  const again = () => { paint(); choose(shown); };
  select.addEventListener("change", again);
  window.addEventListener("resize", again);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  if ([...select.options].some((option) => option.value === "error")) select.value = "part";
  again();
})();
