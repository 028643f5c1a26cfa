"use strict";
// What both pages share. Data reaches the document as text only, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);

// An element with attributes and children; strings become text.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function bytesText(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  return (unit === 0 || value >= 100 ? Math.floor(value) : value.toPrecision(3)) + " " + units[unit];
}

function timeText(ns) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  for (const [size, name] of units) {
    if (ns >= size) return (ns / size).toPrecision(3) + " " + name;
  }
  return Math.round(ns) + " ns";
}

function numberText(value) {
  return value.toLocaleString("en-US");
}

function plural(count, one, many) {
  return numberText(count) + " " + (count === 1 ? one : many || one + "s");
}

// An axis of bytes, with powers of two between its lines.
function bytesAxis(largest) {
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(Math.max(largest, 1) / 6)));
  return { beginAtZero: true, ticks: { stepSize: step, callback: (value) => bytesText(value) } };
}

// `name` is for tests and for copying by scripts: data-figure, with the exact value beside it.
function figure(name, title, value, text) {
  return make("div", { class: "card figure", "data-figure": name, "data-value": value },
              make("b", {}, text === undefined ? numberText(value) : text), make("span", { class: "soft" }, title));
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

// Charts are made anew when the theme changes: they take their colours from the style sheet.
const charts = [];
function chart(title, wide, options) {
  const canvas = make("canvas", { role: "img", "aria-label": title });
  charts.push({ canvas, options, made: null });
  return make("div", { class: wide ? "card wide" : "card" }, make("h2", {}, title), make("div", { class: "plot" }, canvas));
}

function drawCharts() {
  Chart.defaults.color = color("soft");
  Chart.defaults.borderColor = color("line");
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  for (const one of charts) {
    if (one.made !== null) one.made.destroy();
    one.made = new Chart(one.canvas, one.options());
  }
}

// [label, count] pairs as bars; `unit` is "bytes" or what is counted.
function bars(pairs, colorName, unit, horizontal, logarithmic) {
  const count = {
    beginAtZero: true, type: logarithmic ? "logarithmic" : "linear", title: { display: true, text: unit },
    ticks: { precision: 0, callback: (value) => (logarithmic && Math.log10(value) % 1 !== 0 ? null : numberText(value)) },
  };
  if (logarithmic) count.min = 0.5;
  const value = unit === "bytes" ? bytesAxis(Math.max(...pairs.map((pair) => pair[1]))) : count;
  return {
    type: "bar",
    data: {
      labels: pairs.map((pair) => pair[0]),
      datasets: [{ label: unit, data: pairs.map((pair) => pair[1]), backgroundColor: color(colorName), borderRadius: 3 }],
    },
    options: {
      indexAxis: horizontal ? "y" : "x",
      plugins: { legend: { display: false } },
      scales: horizontal ? { x: value } : { y: value, x: { ticks: { autoSkip: true, maxRotation: 60 } } },
    },
  };
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  drawCharts();
}

function themeButton() {
  return make("button", {
    type: "button", id: "theme", title: "Light or dark",
    onclick: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  }, "◐ theme");
}

function start(build) {
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.getElementById("page").replaceChildren(...build());
  drawCharts();
  document.documentElement.dataset.ready = "1";
}
