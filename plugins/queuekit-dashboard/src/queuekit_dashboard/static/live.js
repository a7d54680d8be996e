// Says "figures" to the page when there may be new ones: as the server tells, else every two seconds.
"use strict";
(() => {
  const busy = () => document.hidden || document.querySelector("#live :focus") !== null;
  const tell = () => { if (!busy()) document.body.dispatchEvent(new Event("figures")); };
  let timer = 0;
  const poll = () => { if (!timer) timer = setInterval(tell, 2000); };
  if (!document.getElementById("live")) return;
  if (document.body.dataset.live !== "events" || !window.EventSource) { poll(); return; }
  let source = null;
  const listen = () => {
    source = new EventSource(document.body.dataset.events);
    source.addEventListener("figures", tell);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) poll(); };
  };
  // A hidden page needs no stream, and browsers open few connections to one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; }
    else if (!document.hidden && !source && !timer) listen();
  });
  window.addEventListener("pagehide", () => { if (source) { source.close(); source = null; } });
  if (!document.hidden) listen();
})();
