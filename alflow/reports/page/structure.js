/* A structure in 3D: balls and sticks on a canvas; drag turns, wheel zooms, double click puts it back. */
const ELEMENTS = {
  H: "#e8e8e8", He: "#c9f2f2", Li: "#b57edc", B: "#e9a58f", C: "#6a6f78", N: "#3d66e0", O: "#e0342b", F: "#6cc24a", Ne: "#a5dfe8",
  Na: "#9a5fd1", Mg: "#4f9d3a", Al: "#a9a0a0", Si: "#d9b382", P: "#f08b1d", S: "#e3c52f", Cl: "#3fbf3f", Ar: "#80cfe0", K: "#8045c0",
  Ca: "#5fb84f", Ti: "#a8adb5", Fe: "#d0703a", Ni: "#5fbf6a", Cu: "#c07a3a", Zn: "#8087b0", Ga: "#b58a8a", Ge: "#7a9a9a", As: "#b080d8",
  Se: "#e09a2a", Br: "#a33a2a", I: "#8a2aa0", Pd: "#3a7a90", Ag: "#b8bcc4", Pt: "#b9b9cf", Au: "#e8c23a",
};

const Viewer = {
  canvas: document.getElementById("d-canvas"), shown: null, turn: null, zoom: 1,

  show(structure) {
    const same = this.shown && structure && this.shown.symbols.join() === structure.symbols.join();
    this.shown = structure;
    if (!same) this.reset();
    this.draw();
  },

  reset() {
    const [a, b] = [0.5, -0.6], c = Math.cos(b), s = Math.sin(b);
    this.turn = [[Math.cos(a), 0, Math.sin(a)], [s * Math.sin(a), c, -s * Math.cos(a)], [-c * Math.sin(a), s, c * Math.cos(a)]];
    this.zoom = 1;
  },

  rotate(dx, dy) {
    const rotation = (i, j, angle) => {
      const [c, s] = [Math.cos(angle), Math.sin(angle)], [p, q] = [this.turn[i], this.turn[j]];
      this.turn[i] = p.map((v, n) => c * v - s * q[n]);
      this.turn[j] = p.map((v, n) => s * v + c * q[n]);
    };
    rotation(2, 0, dx / 130);
    rotation(1, 2, dy / 130);
    this.draw();
  },

  /* Pairs of atoms closer than 1.25 times the sum of their covalent radii. */
  bonds(s) {
    const found = [], p = s.positions_ang;
    for (let i = 0; i < p.length; i++) for (let j = i + 1; j < p.length; j++) {
      const most = 1.25 * (s.radii_ang[i] + s.radii_ang[j]);
      const [x, y, z] = [p[i][0] - p[j][0], p[i][1] - p[j][1], p[i][2] - p[j][2]];
      if (Math.abs(x) < most && x * x + y * y + z * z < most * most) found.push([i, j]);
    }
    return found;
  },

  /* Edges of the cell, if it is periodic in all of its directions. */
  edges(s) {
    if (!s.pbc.every(Boolean)) return [];
    const [a, b, c] = s.cell_ang, corner = (i, j, k) => a.map((v, n) => i * v + j * b[n] + k * c[n]), made = [];
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]])
      made.push([corner(0, i, j), corner(1, i, j)], [corner(i, 0, j), corner(i, 1, j)], [corner(i, j, 0), corner(i, j, 1)]);
    return made;
  },

  draw() {
    const pen = this.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement), s = this.shown;
    if (!s) {
      pen.fillStyle = style.getPropertyValue("--muted");
      pen.font = "13px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText("no structure to draw", width / 2, height / 2);
      this.canvas.dataset.atoms = "0";
      return;
    }
    const cell = this.edges(s), all = [...s.positions_ang, ...cell.flat()], count = all.length;
    const middle = [0, 1, 2].map((n) => all.reduce((sum, p) => sum + p[n], 0) / count);
    const seen = (p) => this.turn.map((row) => row.reduce((sum, v, n) => sum + v * (p[n] - middle[n]), 0));
    const reach = Math.max(...all.map((p) => Math.hypot(p[0] - middle[0], p[1] - middle[1], p[2] - middle[2]))) + 0.55;
    const scale = (this.zoom * Math.min(width, height)) / 2 / reach;
    const at = s.positions_ang.map(seen), X = (p) => width / 2 + scale * p[0], Y = (p) => height / 2 - scale * p[1];
    const depth = (z) => 0.62 + 0.38 * Math.min(1, Math.max(0, (z + reach) / (2 * reach)));
    const jobs = [], ball = (n) => 0.2 + 0.3 * s.radii_ang[n];
    for (const [p, q] of cell) {
      const [a, b] = [seen(p), seen(q)];
      jobs.push([(a[2] + b[2]) / 2 - 0.05, () => {
        pen.strokeStyle = style.getPropertyValue("--grey");
        pen.lineWidth = 1;
        pen.globalAlpha = 0.75;
        pen.beginPath(); pen.moveTo(X(a), Y(a)); pen.lineTo(X(b), Y(b)); pen.stroke();
        pen.globalAlpha = 1;
      }]);
    }
    for (const [i, j] of this.bonds(s)) this.stick(jobs, pen, [at[i], at[j]], [s.symbols[i], s.symbols[j]], [ball(i), ball(j)], X, Y, scale, depth);
    at.forEach((p, n) => jobs.push([p[2] + 0.01, () => this.ball(pen, X(p), Y(p), scale * ball(n), s.symbols[n], depth(p[2]))]));
    jobs.sort((a, b) => a[0] - b[0]).forEach((job) => job[1]());
    this.canvas.dataset.atoms = String(at.length);
  },

  colour(symbol, light) {
    const hex = ELEMENTS[symbol] || "#c58bb8";
    return "rgb(" + [1, 3, 5].map((n) => Math.round(Math.min(255, parseInt(hex.slice(n, n + 2), 16) * light))).join() + ")";
  },

  /* A bond in two halves, each of its atom's colour, from just inside of the ball. */
  stick(jobs, pen, ends, symbols, radii, X, Y, scale, depth) {
    const [a, b] = ends, middle = a.map((v, n) => (v + b[n]) / 2), length = Math.hypot(...a.map((v, n) => b[n] - v)) || 1;
    [a, b].forEach((end, n) => {
      const from = end.map((v, k) => v + ((middle[k] - v) * Math.min(1, 1.8 * radii[n] / length)));
      const z = (from[2] + middle[2]) / 2;
      jobs.push([z, () => {
        pen.lineCap = "round";
        for (const [share, light] of [[1, 0.62], [0.68, 0.92], [0.28, 1.16]]) {
          pen.strokeStyle = this.colour(symbols[n], light * depth(z));
          pen.lineWidth = Math.max(1, share * 0.2 * scale);
          pen.beginPath(); pen.moveTo(X(from), Y(from)); pen.lineTo(X(middle), Y(middle)); pen.stroke();
        }
      }]);
    });
  },

  ball(pen, x, y, radius, symbol, light) {
    const shade = pen.createRadialGradient(x - radius * 0.35, y - radius * 0.4, radius * 0.1, x, y, radius);
    shade.addColorStop(0, this.colour(symbol, 1.45 * light));
    shade.addColorStop(0.45, this.colour(symbol, light));
    shade.addColorStop(1, this.colour(symbol, 0.55 * light));
    pen.fillStyle = shade;
    pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.fill();
  },
};

Viewer.canvas.onpointerdown = (event) => Viewer.canvas.setPointerCapture(event.pointerId);
Viewer.canvas.onpointermove = (event) => { if (event.buttons & 1) Viewer.rotate(event.movementX, event.movementY); };
Viewer.canvas.ondblclick = () => { Viewer.reset(); Viewer.draw(); };
Viewer.canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  Viewer.zoom = Math.min(8, Math.max(0.3, Viewer.zoom * Math.exp(-event.deltaY / 600)));
  Viewer.draw();
}, { passive: false });
Viewer.canvas.onkeydown = (event) => {
  const step = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] }[event.key];
  if (step) { event.preventDefault(); Viewer.rotate(...step); }
};
