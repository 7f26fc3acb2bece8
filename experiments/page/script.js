"use strict";
// One master clock; every video follows it. A video that lags or leads a little is nudged by its playback rate, one that is
// far off is sought. While a visible video has no frame to show the clock waits, so that slow machines stay in step too.
(() => {
  const NUDGE = 0.04, SEEK = 0.35; // seconds of master time
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const $ = (id) => document.getElementById(id);
  const cells = [...document.querySelectorAll("video[data-source]")];
  const total = page.seconds;
  let now = 0, playing = false, speed = 1, last = null, waited = 0;

  function load(video) {
    if (video.src) return;
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
  function choose(rows) {
    document.querySelectorAll(".videos [data-row]").forEach((cell) => { cell.hidden = !rows.includes(+cell.dataset.row); });
    cells.forEach((v) => { if (v.closest("[hidden]")) v.pause(); else load(v); });
    shown().forEach((v) => follow(v, true));
  }

  if ($("play")) {
    $("play").addEventListener("click", () => setPlaying(!playing));
    $("restart").addEventListener("click", () => go(0));
    $("scrub").addEventListener("input", (event) => go(+event.target.value));
    document.querySelectorAll(".speeds button").forEach((b) => b.addEventListener("click", () => setSpeed(+b.value)));
    if ($("rows")) $("rows").addEventListener("change", (event) => choose(JSON.parse(event.target.value)));
    document.addEventListener("keydown", (event) => {
      const tag = event.target.tagName;
      if (event.ctrlKey || event.metaKey || event.altKey || tag === "SELECT" || tag === "TEXTAREA") return;
      if (event.key === " " && (tag === "BUTTON" || tag === "SUMMARY") && event.target.id !== "play") return;
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
