"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.trials, byTurn = new Map(), children = new Map();
for (const row of rows) for (const id of row.ids) byTurn.set(id, row);
for (const row of rows) {
  const parent = byTurn.get(row.from) || null;
  if (!children.has(parent)) children.set(parent, []);
  children.get(parent).push(row);
}
let curves = null; // read when a trial is first opened

function make(tag, attributes, ...inner) {
  const at = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) at.setAttribute(name, value);
  at.append(...inner);
  return at;
}

function draw(tag, attributes, words) {
  const at = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) at.setAttribute(name, value);
  if (words !== undefined) at.textContent = words;
  return at;
}

function short(x) {
  const size = Math.abs(x);
  if (size >= 1e9) return (x / 1e9).toPrecision(3) + "G";
  if (size >= 1e6) return (x / 1e6).toPrecision(3) + "M";
  if (size >= 1e3) return (x / 1e3).toPrecision(3) + "k";
  return String(Number(x.toPrecision(3)));
}

// a plot: band and line are lists of [x, y] (a band's of [x, low, high]), points may have a title
function plot(o) {
  const W = o.W || 640, H = o.H || 300, left = o.small ? 4 : 52, low = o.small ? 4 : 34;
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
  const xs = [], ys = [];
  for (const s of o.series) for (const p of s.at) { xs.push(p[0]); ys.push(p[1]); if (s.band) ys.push(p[2]); }
  if (!xs.length) return make("p", {}, "Nothing to draw.");
  const log = o.log ? Math.log : (x) => x;
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  if (o.zero) y0 = Math.min(0, y0);
  if (x1 === x0) x1 = x0 * 1.1 || 1;
  if (y1 === y0) y1 = y0 + (Math.abs(y0) * 0.1 || 1);
  const X = (x) => left + 6 + ((log(x) - log(x0)) / (log(x1) - log(x0))) * (W - left - 16);
  const Y = (y) => H - low - 4 - ((y - y0) / (y1 - y0)) * (H - low - 32);
  if (!o.small) {
    for (let i = 0; i <= 4; i++) {
      const y = y0 + ((y1 - y0) * i) / 4;
      svg.append(draw("line", { x1: left, x2: W - 6, y1: Y(y), y2: Y(y), class: "axis" }));
      svg.append(draw("text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y)));
      const x = o.log ? Math.exp(log(x0) + ((log(x1) - log(x0)) * i) / 4) : x0 + ((x1 - x0) * i) / 4;
      svg.append(draw("text", { x: X(x), y: H - 18, "text-anchor": i === 4 ? "end" : "middle" }, short(x)));
    }
    svg.append(draw("text", { x: W - 6, y: H - 3, "text-anchor": "end", class: "soft" }, o.x));
    svg.append(draw("text", { x: 4, y: 11, class: "soft" }, o.y));
  }
  let legend = 0;
  for (const s of o.series) {
    const color = s.color || "var(--accent)";
    if (s.band) {
      const up = s.at.map((p) => `${X(p[0])},${Y(p[2])}`), down = s.at.map((p) => `${X(p[0])},${Y(p[1])}`);
      svg.append(draw("polygon", { points: [...up, ...down.reverse()].join(" "), fill: color, opacity: 0.16 }));
    } else if (s.line) {
      const points = s.at.map((p) => `${X(p[0])},${Y(p[1])}`).join(" ");
      svg.append(draw("polyline", { points, fill: "none", stroke: color, "stroke-width": 1.6,
        "stroke-dasharray": s.dashed ? "5 4" : "none" }));
    } else {
      for (const p of s.at) {
        const dot = draw("circle", { cx: X(p[0]), cy: Y(p[1]), r: s.r || 3, fill: color, opacity: s.opacity || 0.8 });
        if (p[2]) { dot.append(draw("title", {}, p[2])); dot.addEventListener("click", () => p[3] && show(p[3])); }
        svg.append(dot);
      }
    }
    if (s.name && !o.small) {
      svg.append(draw("rect", { x: W - 210, y: 4 + 15 * legend, width: 10, height: 9, fill: color, opacity: s.band ? 0.3 : 1 }));
      svg.append(draw("text", { x: W - 195, y: 13 + 15 * legend++ }, s.name));
    }
  }
  return svg;
}

function steps(at, end) {
  const found = [];
  at.forEach(([x, y], i) => { if (i) found.push([x, at[i - 1][1]]); found.push([x, y]); });
  if (found.length) found.push([end, found[found.length - 1][1]]);
  return found;
}

const drawings = {
  wins(box) {
    const wins = data.wins, end = Math.max(data.hours, 1e-9);
    const series = [];
    if (data.null) series.push({ band: true, color: "var(--muted)", name: "null lines: luck, 95 %",
      at: [[0, 0, 0], [end, data.null.low * end, data.null.high * end]] });
    series.push({ band: true, name: "interval of the line, 95 %",
      at: [[0, 0, 0], [end, wins.low * end, wins.high * end]] });
    series.push({ line: true, dashed: true, name: "fitted: a constant rate", at: [[0, 0], [end, wins.rate * end]] });
    series.push({ line: true, name: "kept by the judge",
      at: steps([[0, 0], ...wins.at.map((h, i) => [h, i + 1])], end) });
    const done = rows.filter((row) => data.verified.some((v) => v.win && row.ids.includes(v.of)));
    series.push({ line: true, color: "var(--warn)", name: "verified over the whole menu",
      at: steps([[0, 0], ...done.map((row, i) => [row.h, i + 1])], end) });
    box.append(plot({ series, zero: true, x: "core hours", y: "wins so far" }));
  },
  best(box) {
    const all = rows.map((row, i) => [row, i + 1]).filter(([row]) => row.score !== null && row.stage !== "race");
    const title = (row) => `turn ${row.k}: ${row.score.toFixed(3)}: ${row.m}`;
    const dots = (keep) => all.filter(([row]) => (row.d === "keep") === keep)
      .map(([row, i]) => [i, row.score, title(row), row]);
    let best = null;
    const line = [];
    for (const [row, i] of all) if (row.d === "keep") { best = row.score; line.push([i, best]); }
    box.append(plot({ x: "trials", y: "score of the champion, and of what was screened", series: [
      { at: dots(false), color: "var(--muted)", r: 2, opacity: 0.5, name: "screened or confirmed" },
      { line: true, at: steps(line, rows.length), name: "champion" }, { at: dots(true), r: 4 }] }));
  },
  pareto(box) {
    const which = Number(document.getElementById("cost").value);
    const at = rows.filter((row) => row.score !== null && row.stage !== "race" && row.c[which] > 0)
      .map((row) => [row.c[which], row.score, `turn ${row.k}: ${row.score.toFixed(3)}: ${row.m}`, row]);
    const front = [];
    for (const p of [...at].sort((a, b) => a[0] - b[0] || b[1] - a[1]))
      if (!front.length || p[1] > front[front.length - 1][1]) front.push(p);
    box.replaceChildren(plot({ log: true, x: ["parameters", "FLOPs a token", "bytes of state"][which], y: "score",
      series: [{ at, color: "var(--muted)", r: 2.5, opacity: 0.5, name: "screened or confirmed" },
        { line: true, at: front, name: "best at its cost or less" }, { at: front, r: 4 }] }));
  },
  effects(box) {
    const found = data.effects;
    if (!found.length) return;
    const H = 26 + 20 * found.length, W = 640, left = 300;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    const most = Math.max(...found.map((e) => Math.max(Math.abs(e.low), Math.abs(e.high))), 1e-6);
    const X = (x) => left + ((x + most) / (2 * most)) * (W - left - 12);
    svg.append(draw("line", { x1: X(0), x2: X(0), y1: 4, y2: H - 20, class: "axis" }));
    found.forEach((e, i) => {
      const y = 14 + 20 * i, color = e.p < 0.025 ? "var(--accent)" : "var(--muted)";
      svg.append(draw("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, `${e.field} = ${e.value} (${e.n})`.slice(-52)));
      svg.append(draw("line", { x1: X(e.low), x2: X(e.high), y1: y, y2: y, stroke: color, "stroke-width": 1.6 }));
      const dot = draw("circle", { cx: X(e.mean), cy: y, r: 3.5, fill: color });
      dot.append(draw("title", {}, `${e.mean} (${e.low} to ${e.high}), ${e.n} trials`));
      svg.append(dot);
    });
    svg.append(draw("text", { x: W - 6, y: H - 3, "text-anchor": "end", class: "soft" }, "what it adds to the score, 95 %; clear ones in colour"));
    box.append(svg);
  },
  regressions(box) {
    const kept = rows.filter((row) => row.win);
    if (!kept.length) return box.append(make("p", {}, "Nothing was kept by the judge."));
    const body = make("tbody");
    for (const row of kept) {
      const each = Object.entries(row.worse).sort((a, b) => a[1] - b[1]);
      const words = each.map(([name, gain]) => `${name} ${gain >= 0 ? "+" : ""}${gain.toFixed(3)}`).join(", ");
      const suites = Object.entries(row.suites).map(([name, score]) => `${name} ${score.toFixed(3)}`).join(", ");
      body.append(make("tr", {}, make("td", {}, `turn ${row.k}`), make("td", {}, suites), make("td", {}, words)));
    }
    const head = make("tr", {}, make("th", {}, "trial"), make("th", {}, "suites"), make("th", {}, "beside the champion"));
    box.append(make("table", {}, make("thead", {}, head), body));
  },
  tree(box) {
    const only = document.getElementById("which").value === "wins";
    box.replaceChildren(branch(null, only));
  },
};

const leads = new Set(); // trials with a kept one beneath them, or kept themselves
for (const row of rows) {
  if (row.d !== "keep") continue;
  for (let at = row; at && !leads.has(at); at = byTurn.get(at.from)) leads.add(at);
}

const PIECE = 100; // trials that are shown at a time
function branch(parent, only) {
  const list = make("ul"), all = (children.get(parent) || []).filter((row) => !only || leads.has(row));
  let shown = 0;
  const more = make("button", {});
  more.addEventListener("click", next);
  function next() {
    more.remove();
    for (const row of all.slice(shown, shown + PIECE)) list.append(leaf(row, only));
    shown += PIECE;
    if (shown < all.length) { more.textContent = `${all.length - shown} more`; list.append(more); }
  }
  next();
  return list;
}

function leaf(row, only) {
  const kind = row.d === "keep" ? "kept" : row.stage === "failed" ? "failed" : "";
  const n = (children.get(row) || []).length;
  const item = make("li"), fold = make("button", { "aria-label": "children" }, n ? "+" : "·");
  const score = row.score === null ? "" : ` ${row.score.toFixed(3)}`;
  const name = make("button", { class: kind }, make("span", { class: "id" }, `${row.k} `), `${row.stage}${score} `, row.m || "no motivation");
  let below = null, told = null;
  fold.addEventListener("click", () => {
    if (!n) return;
    if (below) { below.remove(); below = null; fold.textContent = "+"; return; }
    below = branch(row, only);
    item.append(below);
    fold.textContent = "-";
  });
  name.addEventListener("click", () => {
    if (told) { told.remove(); told = null; return; }
    told = detail(row);
    name.after(told);
  });
  item.append(fold, name);
  if (only && leads.has(row) && n) fold.click();
  return item;
}

function detail(row) {
  if (curves === null) curves = JSON.parse(document.getElementById("curves").textContent);
  const box = make("div", { class: "detail" });
  const say = (name, words) => words && box.append(make("p", {}, make("strong", {}, name + ": "), words));
  say("motivation", row.m);
  say("from", [row.p.map((id) => "turn " + id).join(", "), row.n.join(", ")].filter(Boolean).join("; "));
  say(row.p.length ? "difference to its parent" : "difference to the champion", row.diff.join("; "));
  for (const reason of row.rounds) say("earlier round", reason);
  say("verdict", `${row.d}: ${row.r}`);
  say("audit", row.audit);
  say("repairs", row.repairs.join("; "));
  say("cost", row.c[0] === null ? "" : `${short(row.c[0])} parameters, ${short(row.c[1] || 0)} FLOPs a token, ${short(row.c[2] || 0)} bytes of state, ${row.s.toFixed(0)} s`);
  say("suites", Object.entries(row.suites).map(([s, v]) => `${s} ${v.toFixed(3)}`).join(", "));
  for (const v of data.verified) if (row.ids.includes(v.of)) say("verification", v.reason);
  for (const [proxy, at] of Object.entries(curves[row.k] || {})) {
    const small = make("span", { title: proxy + ": nats of training by step" });
    small.append(plot({ W: 176, H: 96, small: true, series: [{ line: true, at }] }), proxy + " ");
    box.append(small);
  }
  return box;
}

function show(row) {
  const box = detail(row);
  document.querySelector(".tree").before(box);
  box.scrollIntoView({ behavior: "smooth", block: "center" });
}

document.getElementById("cost").addEventListener("change", () => drawings.pareto(document.querySelector("[data-draw=pareto]")));
document.getElementById("which").addEventListener("change", () => drawings.tree(document.querySelector("[data-draw=tree]")));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    drawings[entry.target.dataset.draw](entry.target);
  }
}, { rootMargin: "400px" });
for (const box of document.querySelectorAll("[data-draw]")) {
  if (box.getBoundingClientRect().top < innerHeight) drawings[box.dataset.draw](box);
  else seen.observe(box);
}
window.addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("[data-draw]")) if (!box.childElementCount) drawings[box.dataset.draw](box);
});
document.documentElement.dataset.ready = performance.now().toFixed(0);
