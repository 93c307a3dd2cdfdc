/* Entracte: tells players in the game of a closing, and of what is new after it. */
(function () {
  "use strict";
  if (window.__entracte || !window.fetch || !document.documentElement.attachShadow) return;
  window.__entracte = 1;
  var T = {
    en: { soon: "The game closes for an update in", now: "The game is closing for an update. Please finish what you are doing.", news: "The game was updated", to: "to version", see: "What is new", hide: "Close" },
    fr: { soon: "Fermeture du jeu pour une mise à jour dans", now: "Le jeu ferme pour une mise à jour. Merci de terminer ce que vous faites.", news: "Le jeu a été mis à jour", to: "en version", see: "Les nouveautés", hide: "Fermer" }
  };
  var lang = (document.documentElement.lang || navigator.language || "en").slice(0, 2).toLowerCase();
  var t = T[lang] || T.en, host, root, at = 0, skew = 0, told = "", etag = "", last = null;
  function store(key, value) {
    try { return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value); } catch (e) { return null; }
  }
  function el(name, text, cls) {
    var e = document.createElement(name);
    if (text) e.textContent = text;
    if (cls) e.className = cls;
    return e;
  }
  function frame() {
    if (host && host.isConnected) return;
    host = el("div");
    root = host.attachShadow({ mode: "open" });
    var s = el("style", ":host{all:initial}div{position:fixed;z-index:2147483647;left:0;right:0;top:0;display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:center;justify-content:center;padding:.625rem 3rem .625rem 1rem;background:#0e4a52;color:#fff;font:600 15px/1.4 system-ui,sans-serif;border-bottom:3px solid #e0a030;box-shadow:0 2px 12px #0006}p{margin:0}b{font-variant-numeric:tabular-nums;color:#ffd27a}a{color:#ffd27a}.m{font-weight:400}button{position:absolute;right:.5rem;top:.375rem;width:2rem;height:2rem;border:0;border-radius:.5rem;background:none;color:#fff;font:22px/1 system-ui;cursor:pointer}button:focus-visible,a:focus-visible{outline:2px solid #ffd27a}@media print{div{display:none}}");
    root.appendChild(s);
    (document.body || document.documentElement).appendChild(host);
  }
  function hide() { if (host) host.remove(); host = null; at = 0; }
  function bar(parts, key) {
    frame();
    while (root.childNodes.length > 1) root.removeChild(root.lastChild);
    var d = el("div");
    d.setAttribute("role", "status");
    parts.forEach(function (p) { if (p) d.appendChild(p); });
    var x = el("button", "×");
    x.setAttribute("aria-label", t.hide);
    x.onclick = function () { told = key; hide(); };
    d.appendChild(x);
    root.appendChild(d);
  }
  function left() {
    var s = Math.max(0, Math.ceil((at + skew - Date.now()) / 1000)), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    function two(n) { return (n < 10 ? "0" : "") + n; }
    return h > 23 ? Math.floor(h / 24) + " d " + (h % 24) + " h" : (h ? h + ":" + two(m) : m) + ":" + two(s % 60);
  }
  function tick() {
    var b = at && root && root.querySelector("b");
    if (b) b.textContent = left();
  }
  function show(s) {
    skew = Date.now() - s.server_time;
    var key = s.generation + s.phase, msg = s.message && el("p", s.message, "m");
    if (s.phase === "announced" && s.closes_at) {
      if (told === key) return;
      at = s.closes_at;
      var p = el("p", t.soon + " "), b = el("b", left());
      b.setAttribute("aria-live", "off");
      p.appendChild(b);
      return bar([p, msg], key);
    }
    if (s.phase === "draining") {
      at = 0;
      return told === key ? undefined : bar([el("p", t.now), msg], key);
    }
    if (s.phase !== "open" && s.phase !== "reopening") return hide();
    var seen = store("entracte-version");
    if (s.version && seen !== s.version) {
      store("entracte-version", s.version);
      if (seen) {
        at = 0;
        var a = s.notes_url && el("a", t.see);
        if (a) a.href = s.notes_url;
        return bar([el("p", t.news + " " + t.to + " " + s.version + "."), a], "v" + s.version);
      }
    }
    if (at || (root && root.querySelector("p") && !root.querySelector("a"))) hide();
  }
  function ask() {
    var next = 30000;
    fetch("/_entracte/v1/status", { credentials: "same-origin", headers: etag ? { "If-None-Match": etag, "Accept-Language": lang } : { "Accept-Language": lang } }).then(function (r) {
      if (r.status === 304) return last;
      if (!r.ok) return null;
      etag = r.headers.get("ETag") || "";
      return r.json();
    }).then(function (s) {
      if (!s) return;
      if (s !== last) { last = s; show(s); }
      next = s.poll_after_ms || next;
    }).catch(function () {}).then(function () {
      setTimeout(ask, (document.hidden ? 4 : 1) * next * (0.8 + Math.random() * 0.4));
    });
  }
  setInterval(tick, 1000);
  setTimeout(ask, Math.random() * 1500);
})();
