"use strict";
// The live view: one stream of pictures as an image, one of events for all else.

const SVG = "http://www.w3.org/2000/svg";
const FRESH_S = 6; // the picture of a camera is old after so long without the next one
const RESULTS = 8;
const EVENTS = 8;
const NARROW = 500; // a picture of fewer pixels has room for names alone
const RETRY_MS = 3000;

const camera = new URLSearchParams(location.search).get("camera");
const query = camera === null ? "" : `?camera=${encodeURIComponent(camera)}`;
const shown = new Map(); // by camera: what the picture shows
let newest = null; // of them the last one that was told: it knows where each camera is now
let state = null;
const results = [];
let events = [];
let source = null; // of events; null: this page does not look, because nobody sees it

const at = (id) => document.getElementById(id);

function made(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const fixed = (value, digits) => (typeof value === "number" ? value.toFixed(digits) : "–");
const whole = (value) => (typeof value === "number" ? value.toLocaleString("en") : "–");
const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(0)} %` : "–");
const milliseconds = (value) => (typeof value === "number" ? `${(1000 * value).toFixed(0)} ms` : "–");

function size(bytes) {
  if (typeof bytes !== "number") return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${bytes.toFixed(unit && bytes < 100 ? 1 : 0)} ${units[unit]}`;
}

function side(result, box) {
  const seen = box.confirmed_by || (result.answered_by === "cloud" ? "cloud" : "edge");
  return seen === "cloud" ? "cloud" : "edge";
}

function title(box, isShort) {
  const number = box.track_id === null || box.track_id === undefined ? "" : `#${box.track_id} `;
  const name = box.label === null || box.label === undefined ? box.class_id : box.label;
  return isShort ? `${number}${name}` : `${number}${name} ${(100 * box.confidence).toFixed(0)}%`;
}

function plate(group, x, y, text, kind, font, limit) {
  const width = text.length * font * 0.6 + font * 0.5;
  const left = Math.max(0, Math.min(x, limit - width));
  group.append(made("rect", { class: "plate", x: left, y, width, height: font * 1.3 }));
  group.append(made("text", { class: `name ${kind}`, x: left + font * 0.25, y: y + font, "font-size": font }, text));
}

function points(list, view) {
  return list.map(([x, y]) => `${view.tile[0] + x * view.tile[2]},${view.tile[1] + y * view.tile[3]}`).join(" ");
}

function drawScene(group, view, scene, font) {
  const limit = view.tile[0] + view.tile[2];
  for (const zone of scene.zones) {
    group.append(made("polygon", { class: "area", points: points(zone.points, view) }));
  }
  for (const line of scene.lines) {
    group.append(made("polyline", { class: "line", points: points(line.points, view) }));
  }
  const now = state.status.cameras.find((one) => one.name === view.camera_id) || { zones: [], lines: [] };
  const counts = new Map(now.zones.map((one) => [one.name, one.count]));
  for (const one of now.lines) counts.set(one.name, `${one.in_count} in, ${one.out_count} out`);
  for (const one of [...scene.zones, ...scene.lines]) {
    const [x, y] = one.points[0];
    const text = counts.has(one.name) ? `${one.name}: ${counts.get(one.name)}` : one.name;
    plate(group, view.tile[0] + x * view.tile[2], view.tile[1] + y * view.tile[3], text, "zone", font, limit);
  }
}

function drawBoxes(group, view, font) {
  const [left, top, width, height] = view.tile;
  const [scaleX, scaleY] = [width / view.size[0], height / view.size[1]];
  const isShort = at("overlay").clientWidth < NARROW;
  for (const box of view.result.boxes || []) {
    const [x0, y0, x1, y1] = box.xyxy;
    const kind = side(view.result, box);
    const carried = box.age_s > 0 ? " carried" : "";
    const [x, y] = [left + x0 * scaleX, top + y0 * scaleY];
    group.append(made("rect", {
      class: `box ${kind}${carried}`, x, y,
      width: Math.max(1, (x1 - x0) * scaleX), height: Math.max(1, (y1 - y0) * scaleY),
    }));
    plate(group, x, Math.max(top, y - font * 1.3), title(box, isShort), kind, font, left + width);
  }
  (view.result.classes || []).slice(0, 3).forEach((row, index) => {
    const name = row.label === null ? row.class_id : row.label;
    const kind = view.result.answered_by === "cloud" ? "cloud" : "edge";
    plate(group, left, top + index * font * 1.4, `${name} ${(100 * row.probability).toFixed(0)}%`, kind, font, left + width);
  });
}

function draw() {
  const overlay = at("overlay");
  if (newest === null) return;
  const { canvas, tiles } = newest;
  overlay.setAttribute("viewBox", `0 0 ${canvas[0]} ${canvas[1]}`);
  // Letters of 12 pixels on the screen, whatever the size of the picture there, and of 10 on a phone.
  const across = overlay.clientWidth || canvas[0];
  const font = (across < NARROW ? 10 : 12) * canvas[0] / across;
  const group = made("g", {});
  for (const [name, tile] of Object.entries(tiles)) {
    const [left, top, width, height] = tile;
    const view = shown.get(name);
    if (view) view.tile = tile;
    const isOld = !view || performance.now() - view.at > 1000 * FRESH_S;
    if (view) drawView(group, view, name, font);
    const paused = state && state.live.paused;
    if (isOld || paused) {
      group.append(made("rect", { class: "veil", x: left, y: top, width, height }));
      const now = state && state.status.cameras.find((one) => one.name === name);
      const text = paused ? `pictures are paused: ${paused}` : `no new picture: ${now ? now.state : "?"}`;
      plate(group, left + font, top + height / 2 - font, text, "lost", font, left + width);
    }
    if (Object.keys(tiles).length > 1) {
      plate(group, left, top + height - font * 1.3, name, "camera", font, left + width);
    }
  }
  overlay.replaceChildren(group);
}

function drawView(group, view, name, font) {
  const scene = state && state.scenes[name];
  if (scene) drawScene(group, view, scene, font);
  drawBoxes(group, view, font);
}

function list(id, rows) {
  const nodes = [];
  for (const [name, value, bad] of rows) {
    const key = document.createElement("dt");
    const text = document.createElement("dd");
    key.textContent = name;
    text.textContent = value;
    if (bad) text.className = bad === true ? "bad" : bad;
    nodes.push(key, text);
  }
  at(id).replaceChildren(...nodes);
}

function tellDecision(result) {
  const decision = result.decision;
  const rows = [
    ["camera", result.camera_id], ["frame", result.sequence],
    ["action", decision.action], ["why", decision.reason],
    ["score", fixed(decision.score, 3)], ["expected gain", fixed(decision.expected_gain, 3)],
    ["predicted", milliseconds(decision.predicted_latency_s)],
  ];
  if (decision.payload) rows.push(["form", decision.payload]);
  if (decision.needed_bytes) rows.push(["needs", size(decision.needed_bytes)]);
  if ("threshold" in decision.inputs) rows.push(["threshold", fixed(decision.inputs.threshold, 3)]);
  rows.push(["inference", milliseconds(result.timings.infer_s)]);
  list("decision", rows);
}

function tellLink(status) {
  const link = status.link;
  const rows = [];
  if (link === null) rows.push(["mode", "nothing leaves the device"]);
  else {
    rows.push(["cloud", link.address], ["breaker", link.breaker, link.breaker !== "closed"]);
    if (link.breaker_reason) rows.push(["because", link.breaker_reason, "note"]);
    if (link.misfit) rows.push(["misfit", link.misfit, "note bad"]);
    rows.push(["round trip", milliseconds(link.round_trip_s)]);
    rows.push(["rate", link.bytes_per_s === null ? "–" : `${size(link.bytes_per_s)}/s`]);
    rows.push(["in flight", whole(link.in_flight)], ["sent", whole(link.sent)]);
  }
  if (status.budget) {
    rows.push(["budget left", `${size(status.budget.left_bytes)} of ${size(status.budget.bucket_bytes)}`]);
  }
  if (status.spool) {
    rows.push(["spool", `${whole(status.spool.pending)} frames, ${size(status.spool.pending_bytes)}`]);
    if (status.spool.error) rows.push(["spool fails", status.spool.error, "note bad"]);
  }
  list("link", rows);
}

function tellFrames(status) {
  const frames = status.frames;
  const dropped = Object.values(frames.dropped).reduce((sum, count) => sum + count, 0);
  list("frames", [
    ["captured", whole(frames.captured)], ["edge", whole(frames.edge)], ["cloud", whole(frames.cloud)],
    ["edge, degraded", whole(frames.edge_degraded)], ["revisions", whole(frames.revisions)],
    ["dropped", whole(dropped)], ["answered", `${fixed(frames.answered_per_s, 1)}/s`],
    ["sent", percent(frames.sent_share)],
  ]);
}

// What is told of by name elsewhere on the page; whatever else a status has is shown as it is.
const KNOWN = new Set(["what", "version", "device_id", "boot_id", "process_id", "config", "mode", "uptime_s", "model",
  "cameras", "frames", "link", "budget", "spool", "sinks", "former_sinks_lost"]);
const UNITS = [
  [/_celsius$/, (value) => `${value.toFixed(0)} °C`], [/_bytes$/, size], [/(^|[_ ])(share|pressure)$/, percent],
  [/(^|[_ ])per_s$/, (value) => `${value.toFixed(1)}/s`],
  [/_s$/, (value) => (value < 1 ? milliseconds(value) : value < 600 ? `${value.toFixed(0)} s` : `${(value / 3600).toFixed(1)} h`)],
  [/_rpm$/, (value) => `${value} /min`], [/_volts$/, (value) => `${value.toFixed(2)} V`],
  [/_watts$/, (value) => `${value.toFixed(1)} W`], [/_joules$/, (value) => `${(value / 1000).toFixed(1)} kJ`],
];
const BAD = new Set(["throttling now", "under voltage", "ladder step"]); // if there is something at all

function readings(name, value, like) {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return [];
  if (Array.isArray(value) && typeof value[0] !== "object") return [[label(name), value.join(", "), BAD.has(label(name))]];
  if (Array.isArray(value)) return value.flatMap((one) => readings(`${name} ${String(Object.values(one)[0]).split("/").pop()}`, { ...one, [Object.keys(one)[0]]: null }, ""));
  if (typeof value === "object") return Object.entries(value).flatMap(([key, one]) => readings(`${name} ${key}`.trim(), one, name));
  const unit = typeof value === "number" && UNITS.find(([form]) => form.test(name) || form.test(like));
  const text = unit ? unit[1](value) : typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : String(value);
  return [[label(name), text, value && BAD.has(label(name)) ? true : text.length > 24 && "note"]];
}

const label = (name) => name.replace(/_(celsius|bytes|share|s|rpm|volts|watts|joules)(?= |$)/g, "").replaceAll("_", " ");

function tellHealth(status, live) {
  const rows = [["model", `${status.model.name} ${status.model.version}`], ["up", `${(status.uptime_s / 3600).toFixed(1)} h`]];
  for (const [name, value] of Object.entries(status)) {
    if (!KNOWN.has(name)) rows.push(...readings(name === "health" ? "" : name, value, ""));
  }
  for (const sink of status.sinks) if (sink.failing) rows.push([`sink ${sink.name}`, sink.last_error, "note bad"]);
  rows.push(["viewers", live.viewers]);
  if (live.results_dropped) rows.push(["too slow for", `${whole(live.results_dropped)} results`]);
  list("health", rows);
}

function tellEvent(told) {
  if (["zone_count", "line_count", "health"].includes(told.event)) return; // told elsewhere on the page
  const same = (one) => told.event_id !== undefined && one.event_id === told.event_id;
  const place = events.findIndex(same);
  if (place >= 0) events[place] = told;
  else events = [told, ...events].slice(0, EVENTS);
  listRows("events", events.map((one) => {
    const track = one.track_id === undefined ? "" : `#${one.track_id}`;
    const phase = one.phase === "confirmed" ? "" : one.phase;
    const where = at("cameras").childElementCount > 1 ? one.camera_id : "";
    const named = [one.label, track, one.zone, one.line, one.direction, one.state, phase, one.does, one.reason,
      one.detail, one.cameras, where];
    const text = named.filter((part) => part !== undefined && part !== "" && part !== null).join(" ");
    const time = new Date(1000 * one.at_unix_s).toLocaleTimeString("en-GB");
    return [["who", one.event.replace("_state", "").replaceAll("_", " ")], ["what", text], ["when", time]];
  }));
}

function listRows(id, rows) {
  at(id).replaceChildren(...rows.map((cells) => {
    const row = document.createElement("li");
    for (const [kind, text] of cells) {
      const cell = document.createElement("span");
      cell.className = kind;
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}

function tellCameras(status) {
  const links = [];
  const add = (text, target, isCurrent) => {
    const link = document.createElement("a");
    link.textContent = text;
    link.href = target;
    if (isCurrent) link.setAttribute("aria-current", "page");
    links.push(link);
  };
  if (status.cameras.length > 1) add("all", "/", camera === null);
  for (const one of status.cameras) {
    const rate = one.frames_per_s === null ? "" : ` ${one.frames_per_s.toFixed(1)}/s`;
    add(`${one.name}: ${one.state}${rate}`, `/?camera=${encodeURIComponent(one.name)}`, camera === one.name);
  }
  at("cameras").replaceChildren(...links);
}

function tellState(text, kind) {
  at("state").textContent = text;
  at("state").className = kind;
}

function tellStatus(told) {
  state = told;
  const status = told.status;
  document.title = `${status.device_id} – Spillover`;
  at("device").textContent = status.device_id;
  at("mode").textContent = status.mode;
  at("leave").hidden = !told.live.login;
  const lost = status.cameras.filter((one) => one.state !== "ok" && one.state !== "ended");
  if (lost.length) tellState(lost.map((one) => `${one.name} ${one.state}`).join(", "), "bad");
  else if (status.link && status.link.breaker !== "closed") tellState("link down", "bad");
  else if (told.live.paused) tellState("pictures are paused", "bad");
  else tellState("live", "ok");
  tellLink(status);
  tellFrames(status);
  tellHealth(status, told.live);
  tellCameras(status);
  draw();
}

function tellResult(result) {
  const view = shown.get(result.camera_id);
  if (view && view.result.frame_id === result.frame_id && result.answered_by === "cloud") {
    view.result = result;
    draw();
  }
  results.unshift(result);
  results.length = Math.min(results.length, RESULTS);
}

function summary(result) {
  const counts = new Map();
  for (const row of result.boxes || (result.classes || []).slice(0, 1)) {
    const name = row.label === null ? `class ${row.class_id}` : row.label;
    counts.set(name, (counts.get(name) || 0) + 1);
  }
  const text = [...counts].map(([name, count]) => (count > 1 ? `${count} ${name}` : name)).join(", ") || "nothing";
  return result.revision ? `${text} (late)` : text;
}

function tellResults() {
  listRows("results", results.map((result) => [
    [`who ${result.answered_by === "cloud" ? "cloud" : "edge"}`, result.answered_by === "edge_degraded" ? "degraded" : result.answered_by],
    ["what", summary(result)], ["when", milliseconds(result.timings.total_s)],
  ]));
}

function listen() {
  const mine = new EventSource(`/events${query}`);
  source = mine;
  const on = (name, then) => mine.addEventListener(name, (event) => then(JSON.parse(event.data)));
  on("status", tellStatus);
  on("result", tellResult);
  on("event", tellEvent);
  on("picture", (view) => {
    view.at = performance.now();
    shown.set(view.camera_id, view);
    newest = view;
    tellDecision(view.result);
    tellResults();
    draw();
  });
  let isLost = false;
  mine.addEventListener("open", () => {
    events = [];
    if (isLost) look(); // the daemon is back: its pictures too
    isLost = false;
  });
  mine.addEventListener("error", () => {
    isLost = true;
    if (mine.readyState === EventSource.CLOSED) askWhy(mine); // it was refused
    else tellState("no connection", "bad");
  });
}

// An event source does not tell why it was refused.
async function askWhy(mine) {
  const abort = new AbortController();
  try {
    const answer = await fetch(`/events${query}`, { signal: abort.signal });
    if (answer.status === 401) return location.assign("/login");
    tellState(answer.ok ? "connecting" : (await answer.text()).trim(), "bad");
  } catch {
    tellState("no connection", "bad");
  }
  abort.abort();
  setTimeout(() => { if (source === mine) { listen(); look(); } }, RETRY_MS);
}

function look() {
  at("picture").src = `/live.mjpg${query}`;
}

// Only a page that somebody sees takes one of the few places, and the processor's time.
function follow() {
  if (document.hidden && source) {
    source.close();
    source = null;
    at("picture").removeAttribute("src");
  } else if (!document.hidden && !source) {
    listen();
    look();
  }
}

at("picture").addEventListener("error", () => setTimeout(() => { if (source && state) look(); }, RETRY_MS));
addEventListener("resize", draw);
document.addEventListener("visibilitychange", follow);
follow();
