/* The page: asks for the snapshot every second and shows it; every text goes in as text, never as HTML. */
const EVERY_MS = 1000;
const $ = (id) => document.getElementById(id);
const params = new URLSearchParams(location.search);
const viewer = new StructureViewer($("d-canvas"));
let campaign = params.get("campaign") || "", last = null, heard = null, skew = 0;

const KINDS = { label: "labels", explore: "dynamics", train: "training", handover: "handing over", idle: "idle" };
const MARKS = { moving: "●", waiting: "○", paused: "‖", reset: "↺", running: "●", closing: "●", stopping: "◐", finished: "✓", failed: "✕",
  stopped: "■", created: "○", stale: "!", done: "✓", pending: "○", quarantined: "✕", dropped: "–" };
const LABELS = { pending: "queued", running: "running", done: "done", quarantined: "given up", dropped: "dropped" };

const grouped = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
const fixed = (v, digits) => (v === null || v === undefined ? "–" : v.toFixed(digits));
/* Thousandths, with a digit more where there would be only one: the same rule as in the terminal. */
const milli = (v) => (v === null ? "–" : v >= 0.01 ? (1000 * v).toFixed(0) : (1000 * v).toFixed(1));

function lasting(s) {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} days`;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function made(name, className = "", text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

/* Rows of a table that keep their place when they change: cells are texts or functions that fill the cell. */
function rows(table, list, open) {
  const body = table.tBodies[0], known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  list.forEach(({ key, cells, ask }, place) => {
    let row = known.get(key);
    known.delete(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      for (const head of table.tHead.rows[0].cells) row.append(made("td", head.className));
    }
    if (ask && row.dataset.ask !== ask) {
      row.dataset.ask = ask;
      row.className = "link";
      row.tabIndex = 0;
      row.onclick = () => open(row.dataset.ask);
      row.onkeydown = (event) => { if (event.key === "Enter") open(row.dataset.ask); };
    }
    cells.forEach((cell, n) => (typeof cell === "function" ? cell(row.cells[n]) : put(row.cells[n], cell)));
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] || null);
  });
  known.forEach((row) => row.remove());
  table.hidden = !list.length;
  if (table.nextElementSibling) table.nextElementSibling.hidden = Boolean(list.length);
}

const status = (word, text = word) => (cell) => {
  cell.className = `s-${word}`;
  put(cell, `${MARKS[word] || ""} ${text}`);
};

function counts(place, entries) {
  place.replaceChildren(...entries.flatMap(([n, words, word]) => [made("b", n ? `s-${word}` : "muted", grouped(n)), made("span", "", words)]));
}

function header(told, now) {
  const c = told.campaign, stale = last.stale_since_unix_s, word = stale ? "stale" : c.phase;
  put($("name"), c.name);
  document.title = `${c.name} · alflow`;
  $("state").className = `pill s-${word}`;
  put($("state"), `${MARKS[word] || ""} ${stale ? "not driven" : c.phase}`);
  const facts = [c.reference && `labels by ${c.reference}`, c.temperature_k && `${c.temperature_k} K`,
    c.holder && `driven by ${c.holder}`, c.state === "running" ? `for ${lasting(now - c.begun_unix_s)}` : c.reason];
  put($("facts"), facts.filter(Boolean).join(" · "));
  $("facts").title = $("facts").textContent;
  const notice = stale ? `Stale since ${clock(stale, true)}: nothing has come from the orchestrator, ${c.holder || "which is gone"}. `
    + "What is shown is what was known then; 'alflow resume' takes the campaign up again." : c.state === "failed" ? `The campaign failed: ${c.reason}`
    : told.drained.length ? `No labels on ${told.drained.join(", ")}: label after label crashed there.` : "";
  $("notice").hidden = !notice;
  put($("notice"), notice);
}

function tiles(told) {
  const c = told.campaign, l = told.labels, g = told.generation, w = told.walkers;
  const measured = told.generations[told.generations.length - 1] || {}, mae = measured.audit_force_mae_ev_ang ?? null;
  const held = measured.validation_force_mae_ev_ang ?? null, target = c.target_force_error_ev_ang;
  const unit = (element, value, of) => element.replaceChildren(value, made("em", "", ` ${of}`));
  unit($("k-error"), milli(mae), mae === null ? "" : "meV/Å");
  const low = measured.audit_force_mae_lower_ev_ang ?? null, aim = target ? `target ${milli(target)}` : "";
  const span = low === null ? `${measured.n_audit} audit ${measured.n_audit === 1 ? "frame" : "frames"}, no interval yet` : `95 %: ${milli(low)} to ${milli(measured.audit_force_mae_upper_ev_ang)}`;
  const unknown = held === null ? "no audit labels yet" : `no audit labels yet; held out ${milli(held)}`;
  put($("k-error-more"), [mae === null ? unknown : span, aim].filter(Boolean).join("\n"));
  unit($("k-labels"), grouped(l.done - l.given), c.label_budget ? `of ${grouped(c.label_budget)}` : "");
  $("k-bar").style.width = `${c.label_budget ? Math.min(100, (100 * (l.done - l.given)) / c.label_budget) : 0}%`;
  const speed = l.per_hour !== null ? `${grouped(l.per_hour)} per hour now` : l.per_hour_mean ? `${grouped(l.per_hour_mean)} per hour on average` : "";
  const flags = Object.entries(l.flags || {}).map(([flag, n]) => `${grouped(n)} ${flag}`).join(", ");
  put($("k-labels-more"), [[l.given && `${grouped(l.given)} were given`, speed].filter(Boolean).join(" · "), flags].filter(Boolean).join("\n"));
  counts($("k-queue"), [[l.queued, "queued", "queued"], [l.running, "running", "running"], [l.failed_attempts, "failed", "failed"],
    [l.quarantined, "given up", "quarantined"], [l.dropped, "dropped", "dropped"]]);
  put($("k-generation"), g.active ? String(g.active) : "none yet");
  put($("k-generation-more"), [g.active ? (measured.n_labels ? `learnt from ${measured.n_labels} labels` : "given, not trained here") : "it needs the first labels", g.training ? "training the next" : ""].filter(Boolean).join(" · "));
  counts($("k-walkers"), ["moving", "waiting", "paused", "reset"].map((word) => [w.counts[word] || 0, word, word]));
  unit($("k-time"), w.simulated_ps >= 1000 ? grouped(w.simulated_ps) : fixed(w.simulated_ps, w.simulated_ps < 10 ? 2 : 1), "ps");
  put($("k-time-more"), `${grouped(w.steps)} steps of ${w.count} walkers`);
}

function walkers(told) {
  const w = told.walkers, threshold = told.campaign.threshold_ev_ang;
  put($("walkers-note"), w.left_out ? `${w.shown.length} of ${grouped(w.count)}: reset and paused first, then by disagreement` : w.count ? `${w.count}; click one for its story` : "");
  rows($("walkers"), w.shown.map((one) => ({
    key: String(one.walker), ask: `walker:${one.walker}`,
    cells: [String(one.walker), status(one.status), grouped(one.step), fixed(one.time_fs / 1000, 3), fixed(one.temperature_k, 0),
      fixed(one.disagreement_ev_ang, 3), (cell) => {
        if (!cell.firstChild) cell.append(svg("svg", { class: "spark", viewBox: "0 0 112 17" }));
        spark(cell.firstChild, one.trace_ev_ang, threshold);
      }, (cell) => {
        const before = one.last_reset ? `reset ${one.resets}×, last: ${one.last_reset}` : "";
        cell.className = "cut";
        put(cell, one.reason || before);
        cell.title = [one.reason, before].filter(Boolean).join("\n");
      }],
  })), openDetails);
  const none = document.querySelector("#walkers + .empty");
  put(none, told.campaign.kind === "labelling" ? "These are labels of a file: nothing moves." : "No walkers yet.");
}

function frames(told) {
  rows($("frames"), told.frames.map((one) => ({
    key: one.frame, ask: `frame:${one.frame}`,
    cells: [(cell) => { cell.className = "mono"; put(cell, one.frame.slice(0, 10)); }, one.kind, one.walker === null ? "–" : String(one.walker),
      fixed(one.disagreement_ev_ang, 3), fixed(one.error_ev_ang, 3), one.label ? status(one.label, LABELS[one.label]) : (cell) => { cell.className = "muted"; put(cell, "none asked"); }],
  })), openDetails);
}

function failures(told) {
  const all = Object.entries(told.failure_counts).map(([kind, n]) => `${n} ${kind}`).join(", ");
  put($("failures-note"), all && `in all: ${all}`);
  rows($("failures"), told.failures.map((one) => ({
    key: `${one.at_unix_s} ${one.what} ${one.frame || ""} ${one.message}`, ask: one.frame ? `frame:${one.frame}` : "",
    cells: [clock(one.at_unix_s, true), (cell) => { cell.className = "mono s-failed"; put(cell, one.class); }, one.what,
      (cell) => { cell.className = "text"; put(cell, one.message); }],
  })), openDetails);
}

function pools(told) {
  if (!told.pools.length) return $("pools").replaceChildren(made("p", "muted", !told.campaign.holder ? "No workers: nobody drives the campaign."
    : told.campaign.kind === "labelling" ? "No workers: labels are read from a file." : "No workers yet."));
  $("pools").replaceChildren(...told.pools.map((pool) => {
    const line = made("div", "pool"), idle = pool.idle_share === null ? "" : ` · idle ${Math.round(100 * pool.idle_share)} % of its time`;
    line.append(made("span", "", pool.name === "shared" ? "shared by all tasks" : pool.name.replaceAll("+", " + ")), made("small", "", `${pool.busy} of ${pool.slots} busy${idle}`));
    const slots = made("div", "slots"), kinds = Object.entries(pool.tasks).flatMap(([kind, n]) => Array(n).fill(kind));
    for (let n = 0; n < Math.min(pool.slots, 96); n++) slots.append(Object.assign(made("i", kinds[n] || ""), { title: KINDS[kinds[n]] || "idle" }));
    line.append(slots);
    return line;
  }));
}

function split(told) {
  const t = told.time, busy = t.busy_s;
  if (!t.available_s) return $("split").replaceChildren(made("p", "muted", told.campaign.kind === "labelling" && told.labels.done ? "Nothing was computed here: the labels were there." : "Counted from the first label on."));
  const parts = { label: busy.label || 0, explore: (busy.explore || 0) + (busy.score || 0), train: busy.train || 0, handover: busy.handover || 0, idle: t.idle_s };
  const whole = Object.values(parts).reduce((sum, s) => sum + s, 0), bar = made("div", "shares"), legend = made("div", "legend");
  for (const [kind, seconds] of Object.entries(parts)) {
    const share = (100 * seconds) / whole, piece = made("i", `share ${kind}`);
    piece.style.width = `${share}%`;
    if (share > 0.05) bar.append(piece);
    legend.append(made("i", `key ${kind}`), made("span", "", KINDS[kind]), made("span", "n", lasting(seconds)), made("b", "n", `${share.toFixed(0)} %`));
  }
  $("split").replaceChildren(bar, legend);
}

function show(now) {
  const told = last.snapshot, c = told.campaign;
  header(told, now);
  tiles(told);
  errorChart($("c-error"), told.generations, c.target_force_error_ev_ang, milli);
  disagreementChart($("c-disagreement"), told.disagreement, c.threshold_ev_ang);
  labelChart($("c-labels"), told.labels, Math.max(now, c.last_event_unix_s));
  walkers(told);
  pools(told);
  split(told);
  frames(told);
  failures(told);
}

function freshness() {
  const now = Date.now() / 1000, silent = heard !== null && now - heard > 5;
  $("fresh").classList.toggle("late", silent || Boolean(last && last.stale_since_unix_s));
  if (silent) put($("fresh"), `no answer from this page's server since ${clock(heard, true)}`);
  else if (!last || !last.snapshot) put($("fresh"), heard === null ? "connecting …" : "waiting for the first snapshot");
  else if (last.stale_since_unix_s) put($("fresh"), `stale since ${clock(last.stale_since_unix_s, true)}`);
  else put($("fresh"), `as of ${clock(last.snapshot.made_unix_s, true)}`);
}

function choose() {
  const list = last.campaigns, box = $("campaigns");
  box.hidden = list.length < 2;
  const wanted = list.map((one) => one.uuid).join();
  if (box.dataset.list !== wanted) {
    box.dataset.list = wanted;
    box.replaceChildren(...list.map((one) => Object.assign(made("option", "", one.name), { value: one.uuid })));
  }
  if (last.snapshot) box.value = last.snapshot.campaign.uuid;
}

async function look() {
  try {
    const answer = await fetch(`alflow/api/status.json?campaign=${encodeURIComponent(campaign)}`, { signal: AbortSignal.timeout(8000) });
    if (!answer.ok) throw new Error(answer.statusText);
    last = await answer.json();
    heard = Date.now() / 1000;
    skew = last.served_unix_s - heard;
    choose();
    if (last.snapshot) show(Date.now() / 1000 + skew);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
  }
  freshness();
  setTimeout(look, EVERY_MS);
}

/* The drawer: a question is asked until it is answered, and asked again while the drawer is open. */
let asked = "", answered = 0;

function openDetails(question) {
  if (!question) return;
  const fresh = asked !== question;
  asked = question;
  answered = 0;
  $("drawer").hidden = false;
  if (fresh) fill({ title: question.replace(":", " "), rows: [["", "asking …"]], structure: null, frames: [] });
  ask(question, Date.now());
}

function closeDetails() {
  asked = "";
  $("drawer").hidden = true;
}

async function ask(question, since) {
  if (asked !== question) return;
  let wait = 1500;
  try {
    const answer = await fetch(`alflow/api/answer.json?campaign=${encodeURIComponent(campaign)}&question=${encodeURIComponent(question)}`);
    if (asked !== question) return;
    if (answer.status === 200) {
      answered = Date.now();
      fill(await answer.json());
    } else wait = 350;
  } catch (error) {
    if (!(error instanceof TypeError)) console.error(error);
  }
  if (!answered && Date.now() - since > 12000)
    fill({ title: question.replace(":", " "), rows: [["", "Nobody answers: the process that knows is gone. 'alflow dashboard DB' or 'alflow why DB FRAME' tell it from the database."]], structure: null, frames: [] });
  setTimeout(() => ask(question, since), wait);
}

function fill(told) {
  put($("d-title"), told.title || asked.replace(":", " "));
  const lines = told.error ? [["", told.error]] : told.rows;
  $("d-rows").replaceChildren(...lines.flatMap(([heading, words]) => [made("dt", "", heading), made("dd", "", words)]));
  put($("d-caption"), told.structure ? `${told.structure.formula}${told.caption && told.caption !== told.structure.formula ? ` ${told.caption}` : ""} · drag to turn, wheel to zoom` : "");
  const links = (told.frames || []).map((one) => [`${one.decision} at step ${one.step}`, `frame:${one.frame}`]);
  if (told.walker !== null && told.walker !== undefined) links.push([`walker ${told.walker}`, `walker:${told.walker}`]);
  const words = links.map((link) => link.join()).join();
  if ($("d-more").dataset.words !== words) {
    $("d-more").dataset.words = words;
    const buttons = links.map(([text, question]) => Object.assign(made("button", "", text), { type: "button", onclick: () => openDetails(question) }));
    $("d-more").replaceChildren(...(buttons.length ? [made("span", "", told.frames && told.frames.length ? "Its newest frames" : "Reached by")] : []), ...buttons);
  }
  viewer.show(told.structure || null);
}

const THEMES = { auto: "◐ auto", light: "☀ light", dark: "☾ dark" };
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try { theme = localStorage.getItem("alflow-theme") || "auto"; } catch (error) { theme = "auto"; }

function paint() {
  document.documentElement.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
  put($("theme"), THEMES[theme] || THEMES.auto);
  if (!$("drawer").hidden) viewer.draw();
}

$("theme").onclick = () => {
  theme = { auto: "light", light: "dark", dark: "auto" }[theme] || "auto";
  try { localStorage.setItem("alflow-theme", theme); } catch (error) { console.info("the theme is not kept", error.name); }
  paint();
};
system.onchange = paint;
$("d-canvas").addEventListener("wheel", (event) => {
  event.preventDefault();
  viewer.magnify(Math.exp(-event.deltaY / 600));
}, { passive: false });
$("d-close").onclick = closeDetails;
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDetails(); });
$("campaigns").onchange = () => { campaign = $("campaigns").value; closeDetails(); };
window.addEventListener("resize", () => { if (last && last.snapshot) show(Date.now() / 1000 + skew); if (!$("drawer").hidden) viewer.draw(); });
if (LINKS.length) {
  $("links").hidden = false;
  $("links").append(...LINKS.map((name) => Object.assign(made("a", name === "alflow" ? "here" : "", name), { href: name })));
}
paint();
setInterval(freshness, 1000);
look();
