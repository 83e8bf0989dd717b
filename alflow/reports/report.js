// The map of the data set and the structure beside it: two canvases and no library.
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
  const viewer = new StructureViewer(document.getElementById("viewer"));
  const select = document.getElementById("map-color");
  const legend = document.getElementById("map-legend");
  const facts = document.getElementById("map-facts");
  const ramp = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [240, 220, 60]];
  const wheel = ["blue", "amber", "teal", "violet", "red", "gray"];
  const units = { energy: "meV/atom", error: "meV/Å", disagreement: "eV/Å" };

  let shown = Math.max(0, data.error.findIndex((value) => value === finite(data.error)[1]));
  let pinned = false;

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

  function structureOf(i) {
    const atoms = [...Array(data.sizes[i]).keys()].map((a) => a + starts[i]);
    const kinds = atoms.map((a) => data.elements[numbers[a]]);
    const cell = (data.cells && data.cells[i]) || [];
    return {
      symbols: kinds.map((kind) => kind.symbol),
      radii_ang: kinds.map((kind) => kind.radius_ang),
      positions_ang: atoms.map((a) => [0, 1, 2].map((axis) => positions[3 * a + axis] * data.scale)),
      cell_ang: [cell.slice(0, 3), cell.slice(3, 6), cell.slice(6)],
      pbc: [cell.length > 0],
    };
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
    viewer.show(structureOf(i));
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
    const step = { n: 1, N: 1, p: -1, P: -1 }[event.key];
    if (step) { pinned = true; choose((shown + step + n) % n); }
    else if (!viewer.key(event.key)) return;
    event.preventDefault();
  });
  const again = () => { paint(); choose(shown); };
  select.addEventListener("change", again);
  window.addEventListener("resize", again);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  if ([...select.options].some((option) => option.value === "error")) select.value = "part";
  again();
})();
