"use strict";
// What a trace holds: memory over time, sizes, lifetimes, sweeps and pauses.

const series = [["live", "live"], ["quarantined", "quarantined"], ["held", "held"], ["footprint", "footprint"]];

function seconds(title) {
  return { type: "linear", title: { display: true, text: title }, ticks: { maxRotation: 0 } };
}

function memoryChart(process) {
  const memory = process.memory;
  const points = (name) => memory.seconds.map((x, i) => ({ x, y: memory[name][i] })).filter((point) => point.y !== null);
  return {
    type: "line",
    data: {
      datasets: series.map(([name, colorName]) => ({
        label: name, data: points(name), stepped: true, pointRadius: 0, pointHitRadius: 6, borderWidth: 1.6,
        borderColor: color(colorName), backgroundColor: color(colorName),
      })),
    },
    options: {
      parsing: false,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      plugins: { tooltip: { callbacks: { label: (item) => item.dataset.label + ": " + bytesText(item.parsed.y),
                                         title: (items) => items[0].parsed.x.toFixed(6) + " s" } } },
      scales: { x: seconds("seconds"), y: bytesAxis(Math.max(...memory.live, ...memory.footprint)) },
    },
  };
}

function sweepChart(process) {
  const points = (name) => process.sweeps.map((sweep) => ({ x: sweep.at, y: sweep[name] })).filter((point) => point.y > 0);
  const set = (label, name, colorName) => ({ label, data: points(name), backgroundColor: color(colorName), pointRadius: 3 });
  return {
    type: "scatter",
    data: { datasets: [set("sweep", "took_ns", "live"), set("pause", "pause_ns", "quarantined")] },
    options: {
      parsing: false,
      plugins: { tooltip: { callbacks: { label: (item) => item.dataset.label + " at " + item.parsed.x.toFixed(3) +
                                                          " s: " + timeText(item.parsed.y) } } },
      scales: { x: seconds("seconds"), y: { type: "logarithmic", ticks: { callback: (value) => timeText(value) } } },
    },
  };
}

function cells(values, kind) {
  return make("tr", {}, values.map((value, i) => make(kind, { class: i === 0 ? null : "number" }, value)));
}

function sweepTable(process) {
  const longest = [...process.sweeps].sort((a, b) => b.took_ns - a.took_ns).slice(0, 15);
  const rows = longest.map((sweep) => cells([
    sweep.at.toFixed(3) + " s" + (sweep.done ? "" : " (abandoned)"), timeText(sweep.took_ns),
    sweep.pause_ns === 0 ? "–" : timeText(sweep.pause_ns), bytesText(sweep.quarantined), bytesText(sweep.released),
    numberText(sweep.held_chunks)], "td"));
  return make("section", { class: "card" }, make("h2", {}, "Longest sweeps"), make("div", { class: "scroll" },
    make("table", { id: "sweeps" },
         make("thead", {}, cells(["at", "took", "pause", "quarantined", "released", "chunks held"], "th")),
         make("tbody", {}, rows))));
}

function processFigures(process) {
  const pause = process.sweeps.reduce((sum, sweep) => sum + sweep.pause_ns, 0);
  const longest = process.sweeps.reduce((most, sweep) => Math.max(most, sweep.pause_ns), 0);
  const released = process.sweeps.reduce((sum, sweep) => sum + sweep.released, 0);
  return make("div", { class: "figures" },
    figure("calls", "calls", process.calls),
    figure("live_bytes", "live at the end, as asked for", process.live_bytes, bytesText(process.live_bytes)),
    figure("live_bytes_max", "live at most", process.live_bytes_max, bytesText(process.live_bytes_max)),
    figure("sweeps", "sweeps", process.sweeps.length),
    figure("released", "released by them", released, bytesText(released)),
    figure("pause", "pauses in all", pause, timeText(pause)),
    figure("pause_max", "longest pause", longest, timeText(longest)));
}

function showProcess(process) {
  charts.length = 0;
  const parts = [processFigures(process), make("div", { class: "charts" },
    chart("Memory over time", true, () => memoryChart(process)),
    chart("Blocks by size, up to", false, () => bars(process.sizes, "live", "blocks", false, true)),
    chart("Blocks by lifetime, freed within", false, () => bars(process.lifetimes, "quarantined", "blocks", false, true)),
    process.sweeps.length === 0 ? null : chart("Sweeps and pauses", true, () => sweepChart(process)))];
  if (process.sweeps.length > 0) parts.push(sweepTable(process));
  return parts;
}

start(() => {
  const body = make("div", { id: "process" });
  const name = (process) => process.command + " (process " + process.process + ")";
  const choice = make("select", {
    id: "choice", "aria-label": "Process",
    onchange: () => {
      for (const one of charts) if (one.made !== null) one.made.destroy();
      body.replaceChildren(...showProcess(data.processes[choice.value]));
      drawCharts();
    },
  }, data.processes.map((process, i) => make("option", { value: i }, name(process) + ", " + plural(process.calls, "call"))));
  const most = data.processes.reduce((best, process, i) => (process.calls > data.processes[best].calls ? i : best), 0);
  choice.value = most;
  body.append(...showProcess(data.processes[most]));
  const notes = plural(data.records, "record") + " of " + plural(data.processes.length, "process", "processes") +
    (data.not_recorded > 0 ? ", " + plural(data.not_recorded, "call") + " not recorded" : "");
  return [
    make("header", {}, make("h1", {}, "Trace " + data.trace), make("span", { class: "soft" }, notes),
         make("span", { class: "spring" }), choice, themeButton()),
    data.problem ? make("p", { class: "card", id: "problem" }, "The trace is damaged: " + data.problem) : null,
    body].filter(Boolean);
});
