// Keeps a page current that is complete without this script: swaps the regions that changed, and nothing the reader
// is busy with. Everything it inserts was escaped by the server, or is inserted as text.
"use strict";
(() => {
  const part = document.getElementById("part");
  const state = document.getElementById("link-state");
  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };

  // Times: in the reader's zone, and how long ago something began.
  const clock = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const length = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
    const first = parts.findIndex(([unit]) => s >= unit);
    if (first < 0) return "0s";
    let rest = s;
    return parts.slice(first, first + 2).map(([unit, name]) => {
      const n = Math.floor(rest / unit);
      rest -= n * unit;
      return n ? n + name : "";
    }).filter(Boolean).join(" ");
  };
  const times = () => {
    for (const time of document.querySelectorAll("time[data-ms]")) {
      const ms = Number(time.dataset.ms);
      const today = new Date(ms).toDateString() === new Date().toDateString();
      const text = (today ? short : clock).format(ms);
      if (time.textContent !== text) time.textContent = text;
      if (!time.title) time.title = time.dateTime;
    }
    for (const since of document.querySelectorAll("[data-since]")) {
      const text = "for " + length(Date.now() - Number(since.dataset.since));
      if (since.textContent !== text) since.textContent = text;
    }
  };

  // Output of steps.
  const follow = (details) => {
    const pre = details.querySelector("pre");
    if (!details.open) {
      if (details.stream) details.stream.close();
      details.stream = null;
      return;
    }
    if (details.stream || !pre) return;
    pre.textContent = "";
    const stream = details.stream = new EventSource(details.dataset.log);
    let attempt = 0;
    stream.addEventListener("line", (event) => {
      const line = JSON.parse(event.data);
      const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
      const text = (attempt && line.attempt !== attempt ? "— attempt " + line.attempt + "\n" : "") + line.text + "\n";
      attempt = line.attempt;
      const node = document.createElement("span");
      if (line.stderr) node.className = "err";
      node.textContent = text;
      pre.append(node);
      while (pre.childNodes.length > 5000) pre.firstChild.remove();
      if (atEnd) pre.scrollTop = pre.scrollHeight;
    });
    stream.addEventListener("end", () => {
      stream.close();
      if (!pre.hasChildNodes()) pre.textContent = "no output\n";
    });
    // A stream that begins anew sends every line again.
    stream.addEventListener("open", () => { pre.textContent = ""; attempt = 0; });
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.matches && event.target.matches("details[data-log]")) follow(event.target);
  }, true);

  // Swapping.
  const sent = new Map();
  const remember = (root) => {
    for (const region of root.querySelectorAll("[data-region]")) sent.set(region.dataset.region, region.outerHTML);
  };
  const carryOver = (from, to) => {
    for (const details of from.querySelectorAll("details[data-key]")) {
      const same = to.querySelector('details[data-key="' + CSS.escape(details.dataset.key) + '"]');
      // A stage that goes on to something new opens or closes as the server says.
      if (!same || same.dataset.phase !== details.dataset.phase) continue;
      same.open = details.open;
      if (details.dataset.log && details.open) same.replaceWith(details);
    }
    for (const field of from.querySelectorAll("input[name], textarea[name]")) {
      if (field.type === "hidden" || !field.value) continue;
      const form = field.closest("form");
      const action = form && form.getAttribute("action");
      const key = form && form.querySelector("input[type=hidden]");
      for (const other of to.querySelectorAll("form")) {
        const otherKey = other.querySelector("input[type=hidden]");
        if (other.getAttribute("action") !== action || (key && key.value) !== (otherKey && otherKey.value)) continue;
        const target = other.querySelector('[name="' + CSS.escape(field.name) + '"]');
        if (target) target.value = field.value;
      }
    }
  };
  const swap = (html) => {
    const next = new DOMParser().parseFromString(html, "text/html");
    const seen = new Set();
    let before = null;
    for (const region of next.querySelectorAll("[data-region]")) {
      const name = region.dataset.region;
      seen.add(name);
      const old = part.querySelector('[data-region="' + CSS.escape(name) + '"]');
      const text = region.outerHTML;
      if (old && sent.get(name) === text) { before = old; continue; }
      sent.set(name, text);
      const fresh = document.importNode(region, true);
      if (old) {
        const active = old.contains(document.activeElement) ? document.activeElement : null;
        const place = active && { name: active.name, value: active.value, start: active.selectionStart };
        carryOver(old, fresh);
        old.replaceWith(fresh);
        if (place && place.name) {
          const again = [...fresh.querySelectorAll('[name="' + CSS.escape(place.name) + '"]')].find((it) => it.value === place.value);
          if (again) { again.focus(); if (again.setSelectionRange && place.start != null) again.setSelectionRange(place.start, place.start); }
        }
      } else if (before) before.after(fresh);
      else part.append(fresh);
      before = fresh;
    }
    for (const region of part.querySelectorAll("[data-region]")) if (!seen.has(region.dataset.region)) region.remove();
    times();
  };

  if (part) remember(part);
  times();
  setInterval(times, 1000);

  if (part && part.dataset.live) {
    const stream = new EventSource(part.dataset.live);
    stream.addEventListener("run", (event) => { say(""); swap(event.data); });
    stream.addEventListener("end", () => stream.close());
    stream.addEventListener("error", () => { if (stream.readyState !== EventSource.OPEN) say("reconnecting…"); });
  } else if (part && part.dataset.refresh) {
    const refresh = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch(part.dataset.refresh, { credentials: "same-origin" });
        if (answer.status === 401) return location.reload();
        if (!answer.ok) throw new Error(answer.status);
        const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("part");
        if (next) { say(""); swap(next.innerHTML); }
      } catch { say("reconnecting…"); }
    };
    setInterval(refresh, 3000);
    document.addEventListener("visibilitychange", refresh);
  }
})();
