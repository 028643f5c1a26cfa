"use strict";
// The report on freed chunks that something still points to.

const kinds = {
  static: "Static data", stack: "Stacks", register: "Registers", heap: "Heap", mapping: "Other memory",
};

function pointersOf(group) {
  return group.chunks.flatMap((chunk) => chunk.pointers.map((pointer) => ({ chunk, pointer })));
}

function pointerCount(chunk) {
  return chunk.pointer_count === undefined ? chunk.pointers.length : chunk.pointer_count;
}

function baseName(path) {
  return path ? path.slice(path.lastIndexOf("/") + 1) : "";
}

function frameText(frame) {
  if (!frame) return "";
  const name = frame.symbol || (frame.module ? baseName(frame.module) + " " + frame.address : frame.address);
  return frame.file ? name + " (" + baseName(frame.file) + (frame.line ? ":" + frame.line : "") + ")" : name;
}

function frameItem(frame) {
  const place = frame.file ? frame.file + (frame.line ? ":" + frame.line : "") : frame.module || "";
  return make("li", { title: (frame.module || "") + " " + frame.address },
              make("code", {}, frame.symbol || frame.address), " ", make("span", { class: "soft" }, place));
}

function stack(title, frames) {
  return make("div", {}, make("h3", {}, title),
              frames.length === 0 ? make("p", { class: "soft" }, "not recorded (run with stacks=1)")
                                  : make("ol", { class: "stack" }, frames.map(frameItem)));
}

function pointerItem({ chunk, pointer }) {
  const inside = pointer.value_offset === 0 ? "to the start" : pointer.value_offset + " bytes in";
  const owner = pointer.owner && pointer.owner.allocated.length > 0
    ? make("details", {}, make("summary", { class: "soft" }, "the chunk it lies in was allocated at"),
           make("ol", { class: "stack" }, pointer.owner.allocated.map(frameItem)))
    : null;
  return make("li", { "data-pointer": pointer.kind }, make("span", { class: "where" }, pointer.where), " ",
              make("span", { class: "soft" }, "→ " + chunk.address + ", " + inside), owner);
}

function chunkTable(chunks) {
  const head = ["Chunk", "Size", "Age in sweeps", "Allocated by", "Freed by", "Pointers"];
  const thread = (id) => (id === null || id === undefined ? "–" : "thread " + id);
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, head.map((text) => make("th", {}, text)))),
    make("tbody", {}, chunks.map((chunk) => make("tr", {},
      make("td", {}, make("code", {}, chunk.address)), make("td", {}, numberText(chunk.size) + " B"),
      make("td", {}, numberText(chunk.age_sweeps)), make("td", {}, thread(chunk.allocated_thread)),
      make("td", {}, thread(chunk.freed_thread)), make("td", {}, numberText(pointerCount(chunk))))))));
}

function ageText(group) {
  const range = group.age_sweeps_min === group.age_sweeps_max
    ? numberText(group.age_sweeps_min) : group.age_sweeps_min + " to " + group.age_sweeps_max;
  return "age " + range + (range === "1" ? " sweep" : " sweeps");
}

// The inside is made when it is first opened: reports may be long.
function groupBody(group) {
  const pointers = pointersOf(group);
  const byKind = Object.keys(kinds)
    .map((kind) => [kind, pointers.filter((one) => one.pointer.kind === kind)])
    .filter((pair) => pair[1].length > 0);
  return make("div", {},
    make("div", { class: "stacks" }, stack("Allocated", group.allocated), stack("Freed", group.freed)),
    byKind.map(([kind, found]) => make("div", { "data-kind": kind },
      make("h3", {}, kinds[kind] + " (" + numberText(found.length) + ")"),
      make("ul", { class: "pointers" }, found.map(pointerItem)))),
    make("h3", {}, plural(group.chunks.length, "chunk") + (group.chunks.length < group.count ? " of " + group.count : "")),
    chunkTable(group.chunks));
}

function groupElement(group) {
  const first = (frames) => frameText(frames.find((frame) => frame.symbol) || frames[0]) || "unknown";
  const size = group.size_min === group.size_max
    ? numberText(group.size_min) + " B each" : group.size_min + " to " + group.size_max + " B";
  const found = new Set(pointersOf(group).map((one) => one.pointer.kind));
  const element = make("details", { class: "group" },
    make("summary", {},
      make("span", { class: "size" }, bytesText(group.bytes)), plural(group.count, "chunk") + ", " + size,
      make("span", { class: "badge" }, ageText(group)),
      Object.keys(kinds).filter((kind) => found.has(kind)).map((kind) => make("span", { class: "badge" }, kind)),
      make("div", { class: "soft" }, "allocated in ", make("code", {}, first(group.allocated)), ", freed in ",
           make("code", {}, first(group.freed)))));
  element.addEventListener("toggle", () => {
    if (element.open && element.childElementCount === 1) element.append(groupBody(group));
  });
  return element;
}

// Everything of a group that one may look for, in one string.
function searchText(group) {
  const frames = [...group.allocated, ...group.freed];
  const words = frames.flatMap((frame) => [frame.symbol, frame.file, frame.module, frame.address]);
  for (const { chunk, pointer } of pointersOf(group)) {
    words.push(chunk.address, pointer.where, pointer.address, pointer.symbol, pointer.module);
    for (const frame of pointer.owner ? pointer.owner.allocated : []) words.push(frame.symbol, frame.file);
  }
  return words.filter(Boolean).join("\n").toLowerCase();
}

const orders = {
  bytes: ["Most bytes first", (a, b) => b.bytes - a.bytes],
  count: ["Most chunks first", (a, b) => b.count - a.count],
  age: ["Oldest first", (a, b) => b.age_sweeps_max - a.age_sweeps_max],
};

function buildGroups(report) {
  const groups = report.groups.map((group) => ({
    group, text: searchText(group), kinds: new Set(pointersOf(group).map((one) => one.pointer.kind)), element: null,
  }));
  const list = make("div", { id: "groups" });
  const shown = make("span", { class: "soft", id: "shown" });
  const search = make("input", {
    type: "search", id: "search", placeholder: "Search functions, files, modules, addresses", "aria-label": "Search",
    oninput: update,
  });
  const present = Object.keys(kinds).filter((kind) => groups.some((one) => one.kinds.has(kind)));
  const boxes = present.map((kind) => make("input", { type: "checkbox", value: kind, checked: true, onchange: update }));
  const order = make("select", { id: "order", "aria-label": "Order", onchange: update },
                     Object.entries(orders).map(([name, [title]]) => make("option", { value: name }, title)));
  function update() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = boxes.filter((box) => box.checked).map((box) => box.value);
    const all = wanted.length === boxes.length;
    const visible = groups
      .filter((one) => words.every((word) => one.text.includes(word)) && (all || wanted.some((kind) => one.kinds.has(kind))))
      .sort((a, b) => orders[order.value][1](a.group, b.group));
    for (const one of visible) one.element = one.element || groupElement(one.group);
    list.replaceChildren(...visible.map((one) => one.element));
    shown.textContent = visible.length === groups.length ? plural(groups.length, "group")
                                                         : visible.length + " of " + plural(groups.length, "group");
  }
  const openAll = make("button", {
    type: "button", id: "open",
    onclick: () => {
      const all = [...list.children];
      const open = !all.every((element) => element.open);
      for (const element of all) element.open = open;
    },
  }, "Open or close all");
  update();
  return [make("div", { class: "tools" }, search,
               boxes.map((box) => make("label", {}, box, kinds[box.value])), order, openAll, shown), list];
}

function showReport(report) {
  charts.length = 0;
  const pointers = report.groups.flatMap(pointersOf);
  const counted = report.groups.reduce((sum, group) => sum + group.chunks.reduce((n, chunk) => n + pointerCount(chunk), 0), 0);
  const byKind = Object.keys(kinds)
    .map((kind) => [kinds[kind], pointers.filter((one) => one.pointer.kind === kind).length])
    .filter((pair) => pair[1] > 0);
  const largest = [...report.groups].sort(orders.bytes[1]).slice(0, 12)
    .map((group) => [frameText(group.allocated.find((frame) => frame.symbol) || group.allocated[0]) || "unknown", group.bytes]);
  const figures = make("div", { class: "figures" },
    figure("chunks", "freed chunks that are still pointed to", report.chunks_dangling),
    figure("bytes", "in them", report.bytes_dangling, bytesText(report.bytes_dangling)),
    figure("groups", "groups, by where they were allocated and freed", report.groups.length),
    figure("pointers", "words that point to them", counted));
  if (report.groups.length === 0) {
    return [figures, make("p", { id: "nothing" }, "Nothing points to freed memory.")];
  }
  return [figures,
    make("div", { class: "charts" },
      chart("Bytes held, by where they were allocated", false, () => bars(largest, "live", "bytes", true, false)),
      chart("Where the pointers are", false, () => bars(byKind, "quarantined", "words", true, false))),
    ...buildGroups(report),
    make("footer", { class: "soft" }, "These chunks were freed, and the heap does not hand them out again while anything " +
         "points into them. A pointer that the program never uses again is harmless; one that it uses is a bug.")];
}

start(() => {
  const reports = Array.isArray(data) ? data : [data];
  const body = make("div", { id: "process" });
  const title = make("h1", {});
  const about = make("span", { class: "soft" });
  function show(report) {
    for (const one of charts) if (one.made !== null) one.made.destroy();
    title.textContent = "Dangling pointers in " + report.program;
    about.textContent = "process " + report.pid + ", " + report.time;
    body.replaceChildren(...showReport(report));
  }
  const choice = reports.length < 2 ? null : make("select", {
    id: "choice", "aria-label": "Process",
    onchange: () => { show(reports[choice.value]); drawCharts(); },
  }, reports.map((report, i) => make("option", { value: i },
    report.program + " (process " + report.pid + "), " + plural(report.chunks_dangling, "chunk"))));
  show(reports[0]);
  return [make("header", {}, title, about, make("span", { class: "spring" }), choice || "", themeButton()), body];
});
