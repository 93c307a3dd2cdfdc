(function () {
  "use strict";
  var d = JSON.parse(document.body.getAttribute("data-entracte"));
  var big = document.getElementById("big"), note = document.getElementById("note");
  var bar = document.getElementById("bar"), say = document.getElementById("say");
  var skew = d.now ? Date.now() - d.now : 0, said = "";
  function put(el, text) { if (el && el.textContent !== text) el.textContent = text; }
  function two(n) { return (n < 10 ? "0" : "") + n; }
  function clock(ms) {
    var s = Math.max(0, Math.ceil(ms / 1000)), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    return (h ? h + ":" + two(m) : m) + ":" + two(s % 60);
  }
  function show() {
    if (!d.until || !big) return;
    var left = d.until + skew - Date.now();
    if (left > 0) put(big, clock(left));
    else { put(big, "…"); if (d.late) put(note, d.late); }
  }
  function tell(text) { if (text && text !== said) { said = text; put(say, text); } }
  // A tester's pass may be younger than what answered: a server takes a moment to be reloaded.
  function passed() {
    var pass = /(?:^|; )entracte_pass=([^;]+)/.exec(document.cookie);
    if (!pass) return false;
    try {
      var tried = (sessionStorage.getItem("entracte-pass") || "").split(" ");
      var times = tried[0] === pass[1] ? +tried[1] : 0;
      if (times >= 3) return false;
      sessionStorage.setItem("entracte-pass", pass[1] + " " + (times + 1));
      return true;
    } catch (e) { return false; }
  }
  function again(ms) { setTimeout(ask, ms * (0.8 + Math.random() * 0.4)); }
  function ask() {
    fetch("/_entracte/v1/status", { cache: "no-store", credentials: "same-origin" }).then(function (r) {
      if (!r.ok) throw 0;
      // A file that a web server shows tells no time; the server does.
      return r.json().then(function (s) {
        s.server_time = s.server_time || Date.parse(r.headers.get("Date")) || Date.now();
        return s;
      });
    }).then(function (s) {
      if (s.enter && (!d.fault || s.ready !== false)) {
        tell(d.open);
        return setTimeout(function () { location.replace(location.href); }, Math.random() * 2000);
      }
      if (s.phase !== d.phase && !d.fault || passed()) return location.replace(location.href);
      skew = Date.now() - s.server_time;
      var p = s.reopens && s.reopens.p50;
      if (d.phase === "closed" && p && p > s.server_time && p !== d.until) d.until = p;
      if (s.ahead && d.phase === "reopening") {
        d.until = s.server_time + s.ahead.wait_s * 1000;
        put(note, s.ahead.text);
      }
      if (bar && s.progress !== null && s.progress !== undefined) bar.value = s.progress;
      tell(s.text);
      show();
      again(s.poll_after_ms || 10000);
    }).catch(function () { again(15000); });
  }
  setInterval(show, 1000);
  show();
  again(d.poll);
})();
