#!/usr/bin/env python3
"""The pages that the launcher makes, in a browser (headless Chromium); one case a function.

  pages_test.py BUSY CASE     runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
  pages_test.py --list        prints the cases
  pages_test.py --screenshots FOLDER   makes the pictures of docs/

The environment gives NONREUSE_LAUNCHER, NONREUSE_LIBRARY, NONREUSE_SOURCE_DIR and NONREUSE_REPORT_PAGE.
"""
import html
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Skip, case, environment, execute, main, require  # noqa: E402

BUSY = None
# What a page may say about itself, written into the document behind its own scripts.
PROBE = """<script>
window.said = [];
addEventListener("error", (event) => said.push(String(event.message)));
</script>"""
TELL = """<script>
(async () => {
  const answer = {};
  try { answer.value = await (async () => { %s })(); } catch (error) { said.push(String(error)); }
  answer.errors = said;
  const element = document.createElement("pre");
  element.id = "answer";
  element.textContent = JSON.stringify(answer);
  document.body.append(element);
})();
</script></body>"""


def run(*command, **more):
    return execute(*command, timeout=90, **more)


def browser(folder, *words):
    name = shutil.which("chromium")
    if name is None:
        raise Skip("chromium is missing (scripts/setup --test installs it)")
    return run(name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=8000",
               f"--user-data-dir={folder}/browser", *words)


def tell(folder, page, code):
    """The page's answer to `code`, after its own scripts have run; it must have had nothing to complain of."""
    text = page.read_text(encoding="utf-8")
    require(text.count("<head>") == 1 and text.count("</body>") == 1, "the page's own tags are not alone")
    copy = page.with_suffix(".asked.html")
    copy.write_text(text.replace("<head>", "<head>" + PROBE).replace("</body>", TELL % code), encoding="utf-8")
    done = browser(folder, "--dump-dom", copy.as_uri())
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    require(not complaints, f"the console: {complaints}")
    match = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.S)
    require(match, f"no answer: {done.stdout[-2000:]}")
    answer = json.loads(html.unescape(match[1]))
    require(answer["errors"] == [], f"{answer['errors']}")
    require('data-ready="1"' in done.stdout, "the page did not get ready")
    return answer["value"]


FIGURES = """const figures = {};
for (const one of document.querySelectorAll("[data-figure]")) figures[one.dataset.figure] = Number(one.dataset.value);
"""
# Pixels of each chart that are not empty.
INKED = """const inked = [...document.querySelectorAll("canvas")].map((canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0;
  return count;
});
"""


def report_page(folder, report, name="report"):
    source, page = folder / f"{name}.json", folder / f"{name}.html"
    source.write_text(json.dumps(report), encoding="utf-8")
    run(os.environ["NONREUSE_REPORT_PAGE"], source, page)
    return page


def frame(symbol, line=1):
    return {"address": "0x1", "module": "/usr/bin/planted", "symbol": symbol, "file": "planted.c", "line": line}


def pointer(kind, where, **more):
    return {"kind": kind, "where": where, "address": "0x7f00", "value_offset": 0, "module": None, "symbol": None,
            "symbol_offset": None, "thread": None, "frame": None, "owner": None, **more}


def group(name, sizes, pointers, age=1):
    chunks = [{"address": hex(0x152cc0000000 + 4096 * i), "size": size, "age_sweeps": age, "pointer_count": len(pointers),
               "pointers": pointers} for i, size in enumerate(sizes)]
    return {"count": len(sizes), "bytes": sum(sizes), "size_min": min(sizes), "size_max": max(sizes), "age_sweeps_min": age,
            "age_sweeps_max": age, "allocated": [frame("make_" + name), frame("main", 9)], "freed": [frame("drop_" + name)],
            "chunks": chunks}


def example(program="planted"):
    """A report of known content; in it names that must not become markup."""
    groups = [group("image", [1 << 20], [pointer("static", "current_image+0"), pointer("stack", "stack of thread 7")], 4),
              group("node", [48] * 3, [pointer("heap", "8 bytes into a chunk", owner={"address": "0x1", "size": 64,
                                                                                      "allocated": [frame("make_list")]})]),
              group("name</script><script>said.push('ran')</script><img src=x onerror=said.push('ran')>", [32, 64],
                    [pointer("register", "rbx <b>bold</b>"), pointer("mapping", "private memory")], 9)]
    return {"program": program, "pid": 4711, "time": "2026-01-02T03:04:05Z", "groups": groups,
            "chunks_dangling": sum(g["count"] for g in groups), "bytes_dangling": sum(g["bytes"] for g in groups)}


@case
def report_figures(folder):
    report = example('pro<b>gram & "more" <!-- --></title>')
    page = report_page(folder, report)
    text = page.read_text(encoding="utf-8")
    require(not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text.split("</style>")[0]), "fetches something")
    answer = tell(folder, page, FIGURES + INKED + """
      return { figures, inked, title: document.title, heading: document.querySelector("h1").textContent,
               bold: document.querySelectorAll("main b").length, images: document.images.length,
               groups: [...document.querySelectorAll("details.group > summary")].map((one) => one.textContent) };""")
    require(answer["figures"] == {"chunks": 6, "bytes": report["bytes_dangling"], "groups": 3,
                                  "pointers": 1 * 2 + 3 * 1 + 2 * 2}, f"{answer['figures']}")
    require(answer["title"] == answer["heading"] == "Dangling pointers in " + report["program"], f"{answer}")
    require(answer["bold"] == 4 and answer["images"] == 0, f"data became markup: {answer}")
    require(len(answer["inked"]) == 2 and min(answer["inked"]) > 2000, f"charts: {answer['inked']}")
    require(["make_image" in answer["groups"][0], "make_node" in answer["groups"][1]] == [True, True], f"{answer}")


@case
def report_use(folder):
    """Search, kinds, order, groups that open, the theme; several processes."""
    other = example("other")
    other["groups"] = other["groups"][:1]
    other["chunks_dangling"] = 1
    nothing = {"program": "clean", "pid": 1, "time": "now", "chunks_dangling": 0, "bytes_dangling": 0, "groups": []}
    page = report_page(folder, [example(), other, nothing])
    answer = tell(folder, page, FIGURES + """
      const names = () => [...document.querySelectorAll("#groups > details")]
        .map((one) => one.querySelector("code").textContent.split(/[_ ]/)[1].slice(0, 4));
      const change = (element, value, kind) => { element.value = value; element.dispatchEvent(new Event(kind)); };
      const search = document.getElementById("search"), order = document.getElementById("order");
      const result = { all: names() };
      change(search, "MAKE_LIST", "input"); result.owner = names();
      change(search, "planted.c thread", "input"); result.words = names();
      change(search, "nowhere", "input"); result.none = names(); result.shown = document.getElementById("shown").textContent;
      change(search, "", "input");
      change(order, "age", "change"); result.age = names();
      for (const box of document.querySelectorAll("input[type=checkbox]"))
        if (box.value !== "heap") { box.checked = false; box.dispatchEvent(new Event("change")); }
      result.heap = names();
      for (const box of document.querySelectorAll("input[type=checkbox]")) box.checked = true;
      document.querySelector("input[type=checkbox]").dispatchEvent(new Event("change"));
      document.getElementById("open").click();
      await new Promise((done) => setTimeout(done, 300));
      result.pointers = Object.fromEntries(["static", "stack", "register", "heap", "mapping"]
        .map((kind) => [kind, document.querySelectorAll(`[data-kind=${kind}] [data-pointer=${kind}]`).length]));
      result.rows = document.querySelectorAll("tbody tr").length;
      const ground = () => getComputedStyle(document.body).backgroundColor;
      const before = ground();
      document.getElementById("theme").click();
      result.theme = before !== ground();
      change(document.getElementById("choice"), "1", "change");
      result.other = [document.querySelector("h1").textContent, names().length];
      change(document.getElementById("choice"), "2", "change");
      result.nothing = document.getElementById("nothing").textContent;
      return result;""")
    require(answer["all"] == ["imag", "node", "name"] and answer["age"] == ["name", "imag", "node"], f"{answer}")
    require(answer["owner"] == ["node"] and answer["words"] == ["imag"] and answer["heap"] == ["node"], f"{answer}")
    require(answer["none"] == [] and answer["shown"] == "0 of 3 groups", f"{answer}")
    require(answer["pointers"] == {"static": 1, "stack": 1, "register": 2, "heap": 3, "mapping": 2}, f"{answer}")
    require(answer["rows"] == 6 and answer["theme"], f"{answer}")
    require(answer["other"] == ["Dangling pointers in other", 1], f"{answer}")
    require(answer["nothing"] == "Nothing points to freed memory.", f"{answer}")


def traced(folder):
    trace, page = folder / "busy.trace", folder / "busy.html"
    run(os.environ["NONREUSE_LAUNCHER"], "run", "--no-summary", f"--trace={trace}", "--", "/bin/sh", "-c", f"'{BUSY}' 2; :")
    run(os.environ["NONREUSE_LAUNCHER"], "trace", "html", trace, "-o", page)
    stats = json.loads(run(os.environ["NONREUSE_LAUNCHER"], "trace", "stats", "--json", trace).stdout)
    return page, stats


@case
def trace_figures(folder):
    """The page of a trace shows the figures of `nonreuse trace stats`, of the process that one chooses."""
    page, stats = traced(folder)
    require(len(stats["processes"]) == 2, f"{stats['processes']}")
    most = max(range(2), key=lambda i: stats["processes"][i]["calls"])
    answer = tell(folder, page, FIGURES + INKED + """
      const first = { figures: { ...figures }, inked, rows: document.querySelectorAll("#sweeps tbody tr").length };
      const choice = document.getElementById("choice");
      choice.value = 1 - choice.value;
      choice.dispatchEvent(new Event("change"));
      for (const one of document.querySelectorAll("[data-figure]")) figures[one.dataset.figure] = Number(one.dataset.value);
      return { first, other: figures, problem: document.getElementById("problem") !== null };""")
    for shown, process in ((answer["first"]["figures"], stats["processes"][most]),
                           (answer["other"], stats["processes"][1 - most])):
        for name in ("calls", "live_bytes", "live_bytes_max"):
            require(shown[name] == process[name], f"{name}: {shown}, {process}")
    first = answer["first"]
    require(first["figures"]["sweeps"] == stats["sweeps"] >= 3, f"{first}")
    require(first["figures"]["pause"] == stats["pause_ns_total"] > 0, f"{first}, {stats}")
    require(first["figures"]["released"] == stats["released_bytes"], f"{first}, {stats}")
    require(first["rows"] == min(15, stats["sweeps"]) and not answer["problem"], f"{answer}")
    require(len(first["inked"]) == 4 and min(first["inked"]) > 2000, f"charts: {first['inked']}")


def screenshots(folder, into):
    """The pictures of docs/: a report on the sample, with its first group open, and a trace."""
    sample = json.loads(pathlib.Path(os.environ["NONREUSE_SOURCE_DIR"], "tests/report/sample.json").read_text())
    report = report_page(folder, sample)
    opened = report.read_text().replace("</body>", "<script>document.querySelector('details.group').open = true;</script></body>")
    report.write_text(opened)
    trace = folder / "python.trace"
    code = ("import json, threading\n"
            "def work():\n"
            "  for i in range(12):\n"
            "    x = json.loads(json.dumps([{'n': n, 'text': str(n) * 9} for n in range(8000 + 1500 * i)]))\n"
            "t = [threading.Thread(target=work) for _ in range(2)]\n"
            "[one.start() for one in t]; [one.join() for one in t]\n")
    run(os.environ["NONREUSE_LAUNCHER"], "run", "--no-summary", f"--trace={trace}", "--", "/usr/bin/python3", "-c", code,
        env=environment(PYTHONMALLOC="malloc"))
    run(os.environ["NONREUSE_LAUNCHER"], "trace", "html", trace, "-o", folder / "trace.html")
    for page, name, height in ((report, "report.png", 1050), (folder / "trace.html", "trace.png", 1250)):
        browser(folder, f"--window-size=1180,{height}", f"--screenshot={into}/{name}", page.as_uri())


def begin(busy):
    global BUSY
    BUSY = busy


if __name__ == "__main__":
    if sys.argv[1:2] == ["--screenshots"]:
        with tempfile.TemporaryDirectory(prefix="pages-test.") as place:
            screenshots(pathlib.Path(place), pathlib.Path(sys.argv[2]).resolve())
    else:
        sys.exit(main(begin))
