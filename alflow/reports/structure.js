/* A structure in 3D: balls and sticks on a canvas, for the page and for the report. Drag or arrow keys turn it, + and − zoom,
   a double click puts it back. A structure is { symbols, radii_ang, positions_ang, cell_ang, pbc }. */
const ELEMENTS = {
  H: "#e8e8e8", He: "#c9f2f2", Li: "#b57edc", B: "#e9a58f", C: "#6a6f78", N: "#3d66e0", O: "#e0342b", F: "#6cc24a", Ne: "#a5dfe8",
  Na: "#9a5fd1", Mg: "#4f9d3a", Al: "#a9a0a0", Si: "#d9b382", P: "#f08b1d", S: "#e3c52f", Cl: "#3fbf3f", Ar: "#80cfe0", K: "#8045c0",
  Ca: "#5fb84f", Ti: "#a8adb5", Fe: "#d0703a", Ni: "#5fbf6a", Cu: "#c07a3a", Zn: "#8087b0", Ga: "#b58a8a", Ge: "#7a9a9a", As: "#b080d8",
  Se: "#e09a2a", Br: "#a33a2a", I: "#8a2aa0", Pd: "#3a7a90", Ag: "#b8bcc4", Pt: "#b9b9cf", Au: "#e8c23a",
};
const KEYS = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1], "+": 1.15, "-": 1 / 1.15 };
const MOST_BONDED = 5000;

const minus = (p, q) => p.map((v, n) => v - q[n]);
const dot = (p, q) => p.reduce((sum, v, n) => sum + v * q[n], 0);
const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
const unit = (p) => p.map((v) => v / Math.sqrt(dot(p, p)));

class StructureViewer {
  constructor(canvas) {
    Object.assign(this, { canvas, shown: null, bonds: [], edges: [], turn: null, zoom: 1 });
    canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = (event) => { if (event.buttons & 1) this.rotate(event.movementX / 130, event.movementY / 130); };
    canvas.ondblclick = () => { this.reset(); this.draw(); };
    canvas.onkeydown = (event) => { if (this.key(event.key)) event.preventDefault(); };
  }

  /* One of the same atoms as before is seen from where that one was seen. */
  show(structure) {
    const same = this.shown && structure && this.shown.symbols.join() === structure.symbols.join();
    this.shown = structure;
    if (structure) {
      this.bonds = bondsOf(structure);
      this.edges = structure.pbc.some(Boolean) ? edgesOf(structure.cell_ang) : [];
      if (!same) this.reset();
    }
    this.draw();
  }

  reset() {
    this.zoom = 1;
    this.turn = this.shown ? facing(this.edges.length ? [] : this.shown.positions_ang) : null;
  }

  /* Whether the key is one of ours. */
  key(name) {
    const step = KEYS[name];
    if (Array.isArray(step)) this.rotate(...step);
    else if (step) this.magnify(step);
    return Boolean(step);
  }

  magnify(factor) {
    this.zoom = Math.min(8, Math.max(0.3, this.zoom * factor));
    this.draw();
  }

  rotate(dx, dy) {
    if (!this.turn) return;
    for (const [i, j, angle] of [[2, 0, dx], [1, 2, dy]]) {
      const [c, s] = [Math.cos(angle), Math.sin(angle)], [p, q] = [this.turn[i], this.turn[j]];
      this.turn[i] = p.map((v, n) => c * v - s * q[n]);
      this.turn[j] = p.map((v, n) => s * v + c * q[n]);
    }
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, s = this.shown;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    pen.scale(ratio, ratio);
    const muted = getComputedStyle(document.documentElement).getPropertyValue("--muted");
    this.canvas.dataset.atoms = String(s ? s.symbols.length : 0);
    if (!s) {
      Object.assign(pen, { fillStyle: muted, font: "13px system-ui, sans-serif", textAlign: "center" });
      pen.fillText("no structure to draw", width / 2, height / 2);
      return;
    }
    const all = [...s.positions_ang, ...this.edges.flat()];
    const middle = [0, 1, 2].map((n) => all.reduce((sum, p) => sum + p[n], 0) / all.length);
    const seen = (p) => this.turn.map((row) => dot(row, minus(p, middle)));
    const reach = 0.55 + Math.sqrt(all.reduce((most, p) => Math.max(most, dot(minus(p, middle), minus(p, middle))), 0));
    const scale = (this.zoom * Math.min(width, height)) / 2 / reach, place = (p) => [width / 2 + scale * p[0], height / 2 - scale * p[1]];
    const light = (z) => 0.62 + 0.38 * Math.min(1, Math.max(0, (z + reach) / (2 * reach)));
    const at = s.positions_ang.map(seen), ball = (n) => 0.2 + 0.3 * s.radii_ang[n], jobs = [];
    for (const [a, b] of this.edges.map((edge) => edge.map(seen)))
      jobs.push([(a[2] + b[2]) / 2 - 0.05, () => drawLine(pen, place(a), place(b), muted, 1, 0.6)]);
    for (const [i, j] of this.bonds) {
      const half = at[i].map((v, k) => (v + at[j][k]) / 2), length = Math.hypot(...minus(at[i], at[j])) || 1;
      for (const n of [i, j]) { // half a bond has its atom's color, from just inside of the ball
        const from = at[n].map((v, k) => v + (half[k] - v) * Math.min(1, (1.8 * ball(n)) / length)), z = (from[2] + half[2]) / 2;
        jobs.push([z, () => {
          for (const [share, bright] of [[1, 0.62], [0.68, 0.92], [0.28, 1.16]])
            drawLine(pen, place(from), place(half), colorOf(s.symbols[n], bright * light(z)), Math.max(1, share * 0.2 * scale), 1);
        }]);
      }
    }
    at.forEach((p, n) => jobs.push([p[2] + 0.01, () => drawBall(pen, place(p), scale * ball(n), s.symbols[n], light(p[2]))]));
    jobs.sort((a, b) => a[0] - b[0]).forEach((job) => job[1]());
  }
}

/* Rows of a rotation that lays the longest extent level and the atom farthest from it up; without atoms, a view askew. */
function facing(positions) {
  const points = positions.slice(0, 300);
  let [across, from, up] = [[0, 0, 0], points[0], [0, 0, 0]];
  for (const p of points) for (const q of points) if (dot(minus(p, q), minus(p, q)) > dot(across, across)) [across, from] = [minus(p, q), q];
  if (!dot(across, across)) return [[0.8776, 0, 0.4794], [-0.2707, 0.8253, 0.4955], [-0.3957, -0.5646, 0.7243]];
  for (const p of points) {
    const along = dot(minus(p, from), across) / dot(across, across), aside = minus(minus(p, from), across.map((v) => along * v));
    if (dot(aside, aside) > dot(up, up)) up = aside;
  }
  const lengths = across.map(Math.abs), least = lengths.indexOf(Math.min(...lengths));
  if (dot(up, up) < 1e-6) up = cross(across, [0, 1, 2].map((n) => Number(n === least)));
  return [unit(across), unit(up), unit(cross(across, up))];
}

/* Pairs of atoms closer than 1.25 times the sum of their covalent radii; none where there are too many to look at. */
function bondsOf({ positions_ang: p, radii_ang: r }) {
  const found = [];
  for (let i = 0; i < p.length && p.length <= MOST_BONDED; i++) for (let j = i + 1; j < p.length; j++) {
    const most = 1.25 * (r[i] + r[j]), x = p[i][0] - p[j][0], y = p[i][1] - p[j][1], z = p[i][2] - p[j][2];
    if (Math.abs(x) < most && x * x + y * y + z * z < most * most) found.push([i, j]);
  }
  return found;
}

function edgesOf([a, b, c]) {
  const corner = (i, j, k) => a.map((v, n) => i * v + j * b[n] + k * c[n]), made = [];
  for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]])
    made.push([corner(0, i, j), corner(1, i, j)], [corner(i, 0, j), corner(i, 1, j)], [corner(i, j, 0), corner(i, j, 1)]);
  return made;
}

function colorOf(symbol, light) {
  const hex = ELEMENTS[symbol] || "#c58bb8";
  return "rgb(" + [1, 3, 5].map((n) => Math.round(Math.min(255, parseInt(hex.slice(n, n + 2), 16) * light))).join() + ")";
}

function drawLine(pen, from, to, strokeStyle, lineWidth, globalAlpha) {
  Object.assign(pen, { strokeStyle, lineWidth, globalAlpha, lineCap: "round" });
  pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke();
  pen.globalAlpha = 1;
}

function drawBall(pen, [x, y], radius, symbol, light) {
  const shade = pen.createRadialGradient(x - radius * 0.35, y - radius * 0.4, radius * 0.1, x, y, radius);
  [[0, 1.45], [0.45, 1], [1, 0.55]].forEach(([where, bright]) => shade.addColorStop(where, colorOf(symbol, bright * light)));
  pen.fillStyle = shade;
  pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.fill();
}
