// Replaces the sections that have changed, while the page is seen. Without it the page is whole, and reloads itself.
"use strict";
(() => {
  const interval = 1000 * Number(document.body.dataset.interval || 2);
  const live = document.getElementById("live");
  const address = () => {
    const query = new URLSearchParams(location.search);
    query.set("fragment", "");
    return "?" + query;
  };

  // replace puts new in the place of old, and keeps what is open and where the focus is.
  const replace = (old, next) => {
    const open = [...old.querySelectorAll("details[open]")].map((d) => d.id);
    const links = (e) => [...e.querySelectorAll("a, summary, pre[tabindex]")];
    const focused = links(old).indexOf(document.activeElement);
    old.replaceWith(next);
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    links(next)[focused]?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    const answer = await fetch(address(), { cache: "no-store", credentials: "same-origin", redirect: "error" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    const main = document.getElementById("main");
    if (!fresh) throw new Error("no page: " + answer.status);
    const sections = (e) => [...e.children].map((c) => c.id).join();
    if (sections(fresh) !== sections(main)) {
      replace(main, fresh);
      return;
    }
    for (const next of [...fresh.children]) {
      const old = document.getElementById(next.id);
      const shown = old.cloneNode(true);
      shown.querySelectorAll("details[open]").forEach((d) => d.removeAttribute("open"));
      if (!shown.isEqualNode(next)) replace(old, next);
    }
  };

  const tick = async () => {
    const selected = String(getSelection());
    if (!document.hidden && !selected) {
      try {
        await refresh();
        live.textContent = "";
      } catch {
        live.textContent = "The server cannot be reached. What is shown is old.";
      }
    }
    setTimeout(tick, interval);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(() => {}); });
  setTimeout(tick, interval);
})();
