"use strict";
// One rater's way through the study. What is answered is kept in the browser after every answer; a CSV is made at the end.
(() => {
  const NUDGE = 0.05, SEEK = 0.3; // seconds that B may be off A before it is hurried, or sought
  const study = JSON.parse(document.getElementById("study-data").textContent);
  const $ = (id) => document.getElementById(id);
  const a = $("video-a"), b = $("video-b"), both = [a, b];
  let rater = 0, order = [], answers = [], place = 0, began = 0, watched = false, playing = false, memory = {};

  // ---- what is kept ------------------------------------------------------------------------------------------------
  const name = () => `study ${study.study} ${rater}`;
  function keep() {
    const text = JSON.stringify({ answers, place });
    memory[name()] = text;
    try { localStorage.setItem(name(), text); } catch { /* a private window: kept as long as the page is open */ }
  }
  function kept() {
    let text = memory[name()];
    try { text = localStorage.getItem(name()) ?? text; } catch { /* as above */ }
    try {
      const found = JSON.parse(text ?? "null");
      return found && Array.isArray(found.answers) && found.answers.length === order.length ? found : null;
    } catch { return null; }
  }

  // ---- the beginning -----------------------------------------------------------------------------------------------
  const given = new URLSearchParams(location.search).get("rater");
  if (given) $("rater").value = given;
  $("begin").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = $("rater").value.trim();
    if (!/^[0-9]{1,5}$/.test(typed) || +typed < 1 || +typed > study.raters.length) {
      $("begin-note").textContent = `Please type a number from 1 to ${study.raters.length}.`;
      $("rater").focus();
      return;
    }
    rater = +typed;
    order = study.raters[rater - 1].map(([pair, left, right]) => ({ pair, a: left, b: right }));
    const found = kept();
    answers = found ? found.answers : order.map(() => ({ choices: {}, seconds: 0 }));
    place = found ? Math.max(0, Math.min(order.length, found.place)) : 0;
    $("welcome").hidden = true;
    show();
  });

  // ---- one pair ----------------------------------------------------------------------------------------------------
  function show() {
    if (place >= order.length) return end();
    const seen = order[place];
    $("pair").hidden = false;
    $("place").textContent = `Pair ${place + 1} of ${order.length}`;
    $("bar").value = place / order.length;
    $("prompt").textContent = study.prompts[seen.pair];
    $("note").textContent = "";
    setPlaying(false);
    watched = false;
    a.src = `videos/${seen.a}.mp4`;
    b.src = `videos/${seen.b}.mp4`;
    began = performance.now();
    ask();
    update();
    $("play").focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
  function ask() {
    const form = $("questions");
    form.replaceChildren();
    for (const question of study.questions) {
      const set = document.createElement("fieldset"), legend = document.createElement("legend");
      legend.textContent = question.text;
      set.append(legend);
      for (const side of ["A", "B"]) {
        const label = document.createElement("label"), input = document.createElement("input"), text = document.createElement("span");
        label.className = "choice";
        Object.assign(input, { type: "radio", name: question.name, value: side, checked: answers[place].choices[question.name] === side });
        input.addEventListener("change", () => choose(question.name, side));
        text.textContent = side;
        label.append(input, text);
        set.append(label);
      }
      form.append(set);
    }
  }
  function choose(question, side) {
    answers[place].choices[question] = side;
    keep();
    const input = [...document.getElementsByName(question)].find((one) => one.value === side);
    if (input) input.checked = true;
    update();
  }
  const open = () => study.questions.filter((question) => !answers[place].choices[question.name]);
  function missing() {
    if (both.some((video) => video.error)) return "A video cannot be loaded. Please reload the page; if it stays so, tell whoever gave it to you.";
    if (!watched) return "Please watch both videos to the end first.";
    const left = open().length;
    return left ? `${left} question${left > 1 ? "s are" : " is"} still open.` : "";
  }
  function update() {
    const lacking = missing();
    $("next").setAttribute("aria-disabled", String(Boolean(lacking)));
    if (!lacking || both.some((video) => video.error)) $("note").textContent = lacking;
    $("next").textContent = place + 1 < order.length ? "Next pair" : "Finish";
  }
  function next() {
    const lacking = missing();
    if (lacking) { $("note").textContent = lacking; return; }
    answers[place].seconds += (performance.now() - began) / 1000;
    place += 1;
    keep();
    show();
  }

  // ---- two videos in step ------------------------------------------------------------------------------------------
  const length = () => Math.min(...both.map((video) => (Number.isFinite(video.duration) ? video.duration : Infinity)));
  function setPlaying(on) {
    playing = on;
    $("play").textContent = on ? "Pause" : "Play";
    if (!on) both.forEach((video) => video.pause());
  }
  function go(t) {
    both.forEach((video) => { if (video.readyState) video.currentTime = t; });
  }
  function seconds(ranges) {
    let sum = 0;
    for (let i = 0; i < ranges.length; i++) sum += ranges.end(i) - ranges.start(i);
    return sum;
  }
  function tick() {
    const total = length();
    if (!watched && seconds(a.played) >= 0.9 * total) { watched = true; update(); } // what was leapt over is not watched
    if (playing && Number.isFinite(total)) {
      if (a.currentTime >= total - 0.05 || a.ended) {
        setPlaying(false);
        go(total);
        update();
      } else if (both.every((video) => video.readyState >= 3 && !video.seeking)) {
        const off = b.currentTime - a.currentTime;
        if (Math.abs(off) > SEEK) b.currentTime = a.currentTime;
        b.playbackRate = Math.abs(off) > NUDGE ? (off > 0 ? 0.92 : 1.08) : 1;
        both.forEach((video) => { if (video.paused) video.play().catch(() => setPlaying(false)); });
      } else if (both.some((video) => video.readyState < 2)) {
        both.forEach((video) => video.pause()); // one lacks frames: the other waits for it
      }
    }
    if (Number.isFinite(total) && document.activeElement !== $("scrub")) $("scrub").value = a.currentTime / total;
    $("time").textContent = `${a.currentTime.toFixed(1)} s`;
    requestAnimationFrame(tick);
  }
  function toggle() {
    if (!playing && Number.isFinite(length()) && a.currentTime >= length() - 0.1) go(0);
    setPlaying(!playing);
  }
  const restart = () => { go(0); setPlaying(true); };
  $("play").addEventListener("click", toggle);
  $("again").addEventListener("click", restart);
  $("next").addEventListener("click", next);
  $("scrub").addEventListener("input", (event) => {
    setPlaying(false);
    if (Number.isFinite(length())) go(+event.target.value * length());
  });
  both.forEach((video) => {
    video.addEventListener("error", update);
    video.addEventListener("loadedmetadata", () => {
      document.querySelector(".videos").classList.toggle("wide", video.videoWidth > 1.3 * video.videoHeight);
      update();
    });
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) setPlaying(false); });
  document.addEventListener("keydown", (event) => {
    if ($("pair").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, on = document.activeElement;
    if (key === "Enter" && on instanceof HTMLButtonElement && on !== $("next") && on !== $("play")) return;
    if (key === " " && on instanceof HTMLButtonElement && on !== $("play")) return;
    const answer = (side) => { const first = open()[0]; if (first) choose(first.name, side); };
    const back = () => {
      const last = study.questions.filter((question) => answers[place].choices[question.name]).pop();
      if (!last) return;
      delete answers[place].choices[last.name];
      keep();
      ask();
      update();
    };
    const action = { " ": toggle, r: restart, a: () => answer("A"), b: () => answer("B"), Backspace: back, Enter: next }[key];
    if (action) { event.preventDefault(); action(); }
  });
  requestAnimationFrame(tick);

  // ---- the end -----------------------------------------------------------------------------------------------------
  function csv() {
    const rows = [["study", "rater", "place", "pair", "question", "choice", "video", "seconds"]];
    order.forEach((seen, i) => {
      for (const question of study.questions) {
        const choice = answers[i].choices[question.name];
        rows.push([study.study, rater, i + 1, seen.pair, question.name, choice, choice === "A" ? seen.a : seen.b, answers[i].seconds.toFixed(1)]);
      }
    });
    return rows.map((row) => row.join(",")).join("\n") + "\n";
  }
  function end() {
    setPlaying(false);
    $("pair").hidden = true;
    $("end").hidden = false;
    const text = csv(), link = $("download");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `answers-${study.study}-${String(rater).padStart(2, "0")}.csv`;
    $("text").value = text;
    link.focus();
  }
})();
