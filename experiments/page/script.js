"use strict";
// One master clock; every video follows it. A video that lags or leads a little is nudged by its playback rate, one that is
// far off is sought. While a visible video has no frame to show the clock waits, so that slow machines stay in step too.
(() => {
  const NUDGE = 0.04, SEEK = 0.35; // seconds of master time
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const $ = (id) => document.getElementById(id);
  const cells = [...document.querySelectorAll(".videos video")];
  const total = page.seconds;
  let now = 0, playing = false, speed = 1, last = null, waited = 0;

  function load(video) {
    if (video.src) return;
    if (video.dataset.link) {
      video.src = video.dataset.link;
      video.addEventListener("loadedmetadata", () => follow(video, true), { once: true });
      return;
    }
    const binary = atob($(video.dataset.source).textContent.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    video.addEventListener("loadedmetadata", () => follow(video, true), { once: true });
  }
  const shown = () => cells.filter((video) => !video.closest("[hidden]") && !video.hidden && !video.error);
  const length = (video) => (Number.isFinite(video.duration) ? video.duration : total);

  function follow(video, exact) {
    const end = length(video), target = Math.min(now, Math.max(0, end - 0.02)), over = now > end + 0.1;
    video.classList.toggle("ended", over);
    if (video.readyState < 1) return;
    const off = video.currentTime - target;
    if (!playing || over || now >= end) {
      if (!video.paused) video.pause();
      if (Math.abs(off) > 0.015 && !video.seeking) video.currentTime = target;
      return;
    }
    if (exact || Math.abs(off) > SEEK * speed) {
      if (!video.seeking) video.currentTime = target;
    }
    video.playbackRate = speed * (Math.abs(off) > NUDGE ? (off > 0 ? 0.9 : 1.1) : 1);
    if (video.paused && !video.seeking) video.play().catch(() => {});
  }

  function tick(stamp) {
    const step = last === null ? 0 : Math.min(0.25, (stamp - last) / 1000);
    last = stamp;
    const visible = shown();
    if (playing) {
      const ready = visible.every((v) => v.readyState >= 2 || now >= length(v));
      waited = ready ? 0 : waited + step;
      if (ready || waited > 3) now = Math.min(total, now + step * speed);
      if (now >= total) setPlaying(false);
    }
    visible.forEach((v) => follow(v, false));
    draw();
    requestAnimationFrame(tick);
  }

  function clock(t) {
    const minutes = Math.floor(t / 60), seconds = t - 60 * minutes;
    return `${minutes}:${seconds.toFixed(1).padStart(4, "0")}`;
  }
  const cursors = [...document.querySelectorAll("svg.panel")].map((svg) => ({
    line: svg.querySelector(".cursor"), x0: +svg.dataset.x0, x1: +svg.dataset.x1, seconds: +svg.dataset.seconds,
  }));
  let drawn = -1;
  function draw() {
    if (drawn === now) return;
    drawn = now;
    if ($("scrub")) {
      $("scrub").value = now;
      $("time").textContent = clock(now);
    }
    for (const c of cursors) {
      const x = c.x0 + (c.x1 - c.x0) * Math.min(1, now / c.seconds);
      c.line.setAttribute("transform", `translate(${(x - c.x0).toFixed(2)} 0)`);
    }
  }

  function setPlaying(on) {
    if (on && now >= total - 0.05) now = 0;
    playing = on;
    waited = 0;
    if ($("play")) {
      $("play").textContent = on ? "Pause" : "Play";
      $("play").setAttribute("aria-pressed", String(on));
    }
    shown().forEach((v) => follow(v, true));
  }
  function go(t) {
    now = Math.max(0, Math.min(total, t));
    shown().forEach((v) => follow(v, true));
    draw();
  }
  function setSpeed(value) {
    speed = value;
    document.querySelectorAll(".speeds button").forEach((b) => b.setAttribute("aria-pressed", String(+b.value === speed)));
  }
  // What is shown: rows by the selector and by words in their prompts, runs by their buttons.
  const off = new Set();
  let chosen = page.first_rows;
  const words = (id) => ($(id)?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const has = (text, of) => of.every((word) => text.toLowerCase().includes(word));
  function choose(rows) {
    chosen = rows;
    const wanted = words("prompts"), prompts = [...document.querySelectorAll(".videos .prompt")];
    const found = prompts.map((p) => has(p.firstChild.textContent, wanted));
    const rowShown = (i) => (wanted.length ? found[i] : rows.includes(i));
    document.querySelectorAll(".videos [data-row]").forEach((cell) => {
      cell.hidden = !rowShown(+cell.dataset.row) || off.has(cell.dataset.run);
    });
    cells.forEach((v) => { if (v.closest("[hidden]")) v.pause(); else load(v); });
    shown().forEach((v) => follow(v, true));
  }

  // A film strip: the same moments of every video of a row, drawn when asked for.
  const FRAMES = 9;
  async function film(prompt) {
    const button = prompt.querySelector("button"), row = prompt.dataset.row;
    const there = document.querySelector(`.strip[data-row="${row}"]`);
    button.setAttribute("aria-expanded", String(!there));
    if (there) { there.remove(); return; }
    const strip = document.createElement("div");
    strip.className = "strip";
    strip.dataset.row = row;
    const videos = cells.filter((v) => v.src && !v.error && v.parentElement.dataset.row === row);
    [...document.querySelectorAll(`.videos > [data-row="${row}"]`)].at(-1).after(strip);
    for (const video of videos) {
      const line = document.createElement("div"), name = document.createElement("span"), copy = document.createElement("video");
      line.dataset.run = video.parentElement.dataset.run;
      name.textContent = page.labels[+line.dataset.run];
      line.append(name);
      strip.append(line);
      copy.muted = true;
      copy.src = video.src;
      const told = (event) => new Promise((done) => ["error", event].forEach((e) => copy.addEventListener(e, done, { once: true })));
      if (copy.readyState < 1) await told("loadedmetadata");
      for (let i = 0; i < FRAMES && strip.isConnected && copy.videoWidth; i++) {
        const canvas = document.createElement("canvas"), t = Math.max(0, (copy.duration - 0.05) * (i / (FRAMES - 1)));
        const sought = told("seeked");
        copy.currentTime = t;
        await sought;
        canvas.height = Math.min(120, copy.videoHeight);
        canvas.width = Math.round(canvas.height * copy.videoWidth / copy.videoHeight);
        canvas.title = `${t.toFixed(1)} s`;
        canvas.getContext("2d").drawImage(copy, 0, 0, canvas.width, canvas.height);
        canvas.addEventListener("click", () => go(t));
        line.append(canvas);
      }
      copy.removeAttribute("src");
    }
    strip.dataset.done = "";
  }
  document.querySelectorAll(".videos .prompt").forEach((prompt) => {
    const button = prompt.querySelector("button");
    button.hidden = false;
    button.addEventListener("click", () => film(prompt));
  });

  // Filters. Of a table, the rows and columns whose head is a run or a metric.
  const hiddenRuns = document.createElement("style");
  document.head.append(hiddenRuns);
  function filter() {
    const wanted = words("metrics");
    const named = {};
    document.querySelectorAll("figure[data-metric]").forEach((figure) => {
      const text = `${figure.querySelector("b").textContent} ${figure.querySelector("p").textContent} ${figure.dataset.metric}`;
      figure.hidden = !(named[figure.dataset.metric] = has(text, wanted));
    });
    document.querySelectorAll("details.group").forEach((group) => {
      const some = [...group.querySelectorAll("figure")].some((figure) => !figure.hidden);
      group.hidden = !some;
      if (some && wanted.length) group.open = true;
    });
    const gone = (head) => off.has(head.dataset.run)
      || (head.dataset.metric !== undefined && !(named[head.dataset.metric] ?? has(`${head.textContent} ${head.dataset.metric}`, wanted)));
    document.querySelectorAll("main table").forEach((table) => {
      const heads = [...table.tHead.rows[0].cells].map(gone);
      [...table.rows].forEach((row, i) => {
        row.hidden = i > 0 && gone(row.cells[0]);
        [...row.cells].forEach((cell, k) => { cell.hidden = heads[k]; });
      });
    });
    hiddenRuns.textContent = [...off].map((i) => `svg.panel [style*="var(--run${i})"], .legend [data-run="${i}"], .strip [data-run="${i}"] { display: none; }`).join("\n");
    const grid = document.querySelector(".videos");
    if (grid) {
      grid.style.setProperty("--runs", Math.max(1, page.labels.length - off.size));
      grid.querySelectorAll(".head").forEach((head) => { head.hidden = off.has(head.dataset.run); });
      choose(chosen);
    }
    const prompts = [...document.querySelectorAll(".videos .prompt")], found = Object.values(named);
    $("nothing").hidden = !((found.length && !found.some(Boolean)) || (words("prompts").length && prompts.every((p) => p.hidden)));
  }
  document.querySelectorAll(".filters").forEach((bar) => {
    bar.hidden = false;
    bar.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => {
      const run = button.dataset.toggle, on = off.has(run);
      if (on) off.delete(run); else off.add(run);
      button.setAttribute("aria-pressed", String(on));
      filter();
    }));
    ["metrics", "prompts"].forEach((id) => $(id)?.addEventListener("input", filter));
    $("bands")?.addEventListener("change", (event) => { document.body.dataset.band = event.target.value; });
  });

  // Tables are sorted by the number of a place that is not small; of "first → last" the last.
  const amount = (cell) => {
    const pieces = [...(cell.querySelector(".pair") ?? cell).childNodes].filter((node) => node.nodeName !== "SMALL");
    const text = pieces.map((node) => node.textContent).join(" ").replaceAll("−", "-").replaceAll(",", "");
    const found = text.match(/[-+]?\d+(\.\d+)?/g);
    return found ? +(text.includes("→") ? found.at(-1) : found[0]) : NaN;
  };
  document.querySelectorAll(".scroll table").forEach((table) => {
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (column && !head.classList.contains("num")) return;
      head.tabIndex = 0;
      head.classList.add("sorts");
      head.title = "sort";
      const sort = () => {
        const rows = [...table.tBodies[0].rows], up = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        const key = (row) => (column ? amount(row.cells[column]) : row.cells[0].textContent.trim());
        rows.sort((a, b) => {
          const x = key(a), y = key(b);
          if (!column) return -up * x.localeCompare(y, undefined, { numeric: true });
          return Number.isNaN(x) ? 1 : Number.isNaN(y) ? -1 : up * (x - y);
        });
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
        table.tBodies[0].append(...rows);
      };
      head.addEventListener("click", (event) => { if (!event.target.closest("a")) sort(); });
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  });

  // A number leads to its run: where it is, what made it.
  const card = document.createElement("div");
  card.className = "tip card";
  card.hidden = true;
  document.body.append(card);
  document.addEventListener("click", (event) => {
    if (card.contains(event.target)) return;
    card.hidden = true;
    const cell = event.target.closest("td.num"), table = cell?.closest("table");
    if (!table) return;
    const run = cell.parentElement.cells[0].dataset.run ?? table.tHead.rows[0].cells[cell.cellIndex].dataset.run;
    if (run === undefined) return;
    const of = page.runs[+run], config = document.createElement("a");
    const [title, path, command] = ["b", "a", "code"].map((tag) => document.createElement(tag));
    title.textContent = page.labels[+run];
    path.href = of.link;
    path.textContent = of.path;
    command.textContent = of.command;
    config.href = `#run${run}`;
    config.textContent = "its configuration";
    card.replaceChildren(title, path, command, config);
    card.hidden = false;
    const box = cell.getBoundingClientRect();
    card.style.left = `${Math.max(8, Math.min(box.left + scrollX, scrollX + innerWidth - card.offsetWidth - 16))}px`;
    card.style.top = `${box.bottom + scrollY + 6}px`;
  });
  const unfold = () => {
    const of = /^#run\d+$/.test(location.hash) && document.querySelector(location.hash);
    if (of) of.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  addEventListener("beforeprint", () => document.querySelectorAll("details.group").forEach((group) => { group.open = true; }));

  if ($("play")) {
    $("play").addEventListener("click", () => setPlaying(!playing));
    $("restart").addEventListener("click", () => go(0));
    $("scrub").addEventListener("input", (event) => go(+event.target.value));
    document.querySelectorAll(".speeds button").forEach((b) => b.addEventListener("click", () => setSpeed(+b.value)));
    if ($("rows")) $("rows").addEventListener("change", (event) => choose(JSON.parse(event.target.value)));
    document.addEventListener("keydown", (event) => {
      const tag = event.target.tagName;
      if (event.ctrlKey || event.metaKey || event.altKey || tag === "SELECT" || tag === "TEXTAREA" || event.target.type === "search") return;
      if (event.key === " " && (tag === "BUTTON" || tag === "SUMMARY" || tag === "A") && event.target.id !== "play") return;
      const stride = event.shiftKey ? 5 : 1;
      const action = { " ": () => setPlaying(!playing), ArrowRight: () => go(now + stride), ArrowLeft: () => go(now - stride),
        Home: () => go(0), 1: () => setSpeed(1), 2: () => setSpeed(2), 4: () => setSpeed(4) }[event.key];
      if (action) { event.preventDefault(); action(); }
    });
    document.addEventListener("visibilitychange", () => { last = null; if (document.hidden) shown().forEach((v) => v.pause()); });
    choose(page.first_rows);
    requestAnimationFrame(tick);
  }

  // Curves: a click moves the videos there, hovering reads the values of the nearest window.
  document.querySelectorAll("figure[data-curves]").forEach((figure) => {
    const svg = figure.querySelector("svg.panel"), tip = figure.querySelector(".tip");
    const panel = page.curves[+figure.dataset.curves], x0 = +svg.dataset.x0, x1 = +svg.dataset.x1;
    const at = (event) => {
      const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      return ((x - x0) / (x1 - x0)) * +svg.dataset.seconds;
    };
    svg.addEventListener("click", (event) => { if ($("play")) go(at(event)); });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    svg.addEventListener("pointermove", (event) => {
      const t = at(event);
      if (t < 0 || t > +svg.dataset.seconds) { tip.hidden = true; return; }
      tip.replaceChildren();
      const title = document.createElement("b");
      tip.append(title);
      let nearest = null;
      for (const curve of panel) {
        let best = -1;
        curve.t.forEach((u, i) => { if (curve.mean[i] !== null && (best < 0 || Math.abs(u - t) < Math.abs(curve.t[best] - t))) best = i; });
        if (best < 0) continue;
        nearest = nearest ?? curve.t[best];
        const row = document.createElement("div"), swatch = document.createElement("span");
        const name = document.createElement("span"), value = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.setProperty("--c", `var(--run${curve.run})`);
        name.textContent = page.labels[curve.run];
        value.textContent = Number(curve.mean[best].toPrecision(3)).toString().replace("-", "−");
        row.append(swatch, name, value);
        tip.append(row);
      }
      title.textContent = nearest === null ? "" : `${nearest.toFixed(1)} s`;
      tip.hidden = nearest === null;
      const box = figure.getBoundingClientRect(), x = event.clientX - box.left;
      tip.style.left = `${x > box.width / 2 ? Math.max(0, x - tip.offsetWidth - 14) : x + 14}px`;
      tip.style.top = `${Math.max(0, event.clientY - box.top - 20)}px`;
    });
  });

  // What a check from outside can read: the clock, and how far the videos are from it and from each other.
  window.deepforcingReport = {
    play: () => setPlaying(true), pause: () => setPlaying(false), go, setSpeed,
    state: () => {
      const times = shown().filter((v) => v.readyState >= 2).map((v) => v.currentTime);
      return { now, playing, speed, shown: shown().length, ready: times.length, errors: cells.filter((v) => v.error).length,
        spread: times.length ? Math.max(...times) - Math.min(...times) : null,
        lag: times.length ? Math.max(...times.map((t) => Math.abs(t - Math.min(now, total)))) : null };
    },
  };
})();
