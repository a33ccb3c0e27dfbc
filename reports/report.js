"use strict";
(() => {
  const root = document.documentElement;
  const kept = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(`labproof-${name}`);
      localStorage.setItem(`labproof-${name}`, value);
    } catch { /* a page opened from a file may have no storage */ }
    return null;
  };
  const french = () => root.lang === "fr";

  root.lang = kept("lang") || root.dataset.lang || ((navigator.language || "").startsWith("fr") ? "fr" : "en");
  if (kept("theme")) root.dataset.theme = kept("theme");
  root.classList.add("lp-scripts");
  if (!document.querySelector("meta[name=viewport]")) {
    const meta = document.createElement("meta");
    meta.name = "viewport";
    meta.content = "width=device-width, initial-scale=1";
    document.head.append(meta);
  }

  const wire = () => {
    const all = (selector, from = document) => [...from.querySelectorAll(selector)];
    const visible = (element) => element.offsetParent !== null;
    const claims = all(".lp-claim, .lp-row");
    const form = document.querySelector(".lp-filters");
    all("[hidden].lp-tools, [hidden].lp-filters").forEach((each) => { each.hidden = false; });

    // ---- language, theme, print
    const dark = () => root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const actions = {
      lang() { root.lang = french() ? "en" : "fr"; kept("lang", root.lang); count(); },
      theme() { root.dataset.theme = dark() ? "light" : "dark"; kept("theme", root.dataset.theme); },
      print() { window.print(); },
      all() {
        const checks = all(".lp-check").filter(visible);
        const open = checks.some((each) => !each.open);
        checks.forEach((each) => { each.open = open; });
      },
    };
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) actions[button.dataset.do]();
    });

    // ---- filters
    const count = () => {
      const said = form && form.querySelector(".lp-count");
      if (!said) return;
      const shown = claims.filter((each) => !each.hidden).length;
      said.textContent = shown === claims.length ? "" : `${shown} / ${claims.length}`;
    };
    const filter = () => {
      const shows = new Set(all("[data-show]:checked").map((each) => each.dataset.show));
      const every = !document.querySelector("[data-show]");
      const words = (form.querySelector("[data-find]")?.value || "").trim().toLowerCase();
      claims.forEach((each) => {
        const wanted = every || shows.has(each.dataset.v);
        each.hidden = !wanted || (words !== "" && !each.textContent.toLowerCase().includes(words));
      });
      all(".lp-objective").forEach((each) => {
        const within = all(".lp-claim", each);
        each.hidden = within.length > 0 && within.every((claim) => claim.hidden);
      });
      count();
    };
    if (form) {
      form.addEventListener("input", filter);
      form.addEventListener("submit", (event) => event.preventDefault());
      filter();
    }

    // ---- a link to a claim opens what tells of it, and shows it whatever the filter
    const arrive = () => {
      let target = null;
      try { target = document.getElementById(location.hash.slice(1)); } catch { return; }
      if (!target) return;
      const claim = target.closest(".lp-claim");
      if (claim?.hidden) {
        all("[data-show]").forEach((each) => { each.checked = true; });
        form.querySelector("[data-find]").value = "";
        filter();
      }
      if (target.matches(".lp-check")) target.open = true;
      if (claim === target) {
        const checks = all(".lp-check", claim);
        const bad = checks.filter((each) => each.dataset.v !== "pass");
        (bad.length ? bad : checks.slice(0, 1)).forEach((each) => { each.open = true; });
      }
      target.scrollIntoView();
    };
    addEventListener("hashchange", arrive);
    if (location.hash) arrive();

    // ---- keys
    const step = (list, by) => {
      const stops = list.filter(visible);
      if (!stops.length) return;
      const here = document.activeElement;
      let at = stops.indexOf(here);
      if (at < 0) {
        const after = stops.findIndex((each) => here.compareDocumentPosition(each) & Node.DOCUMENT_POSITION_FOLLOWING);
        at = by > 0 ? (after < 0 ? stops.length : after) - 1 : (after < 0 ? stops.length : after);
      }
      const next = stops[Math.min(Math.max(at + by, 0), stops.length - 1)];
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    };
    const summaries = all(".lp-check > summary");
    const unmet = summaries.filter((each) => each.parentElement.dataset.v !== "pass");
    const switched = document.querySelector("[data-keys]");
    if (switched && kept("keys") === "off") switched.checked = false;
    switched?.addEventListener("change", () => kept("keys", switched.checked ? "on" : "off"));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (switched && !switched.checked)) return;
      const field = event.target.closest("input, textarea, select");
      if (field && field.type !== "checkbox") {
        if (event.key === "Escape") field.blur();
        return;
      }
      const keys = {
        j: () => step(summaries, 1), k: () => step(summaries, -1),
        n: () => step(unmet, 1), p: () => step(unmet, -1),
        e: () => actions.all(), "/": () => form?.querySelector("[data-find]")?.focus(),
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });

    // ---- the heat map is one stop for the Tab key; arrows move in it
    const map = document.querySelector(".lp-map");
    if (map) {
      const rows = all("tbody tr", map).map((row) => all("a", row)).filter((row) => row.length);
      rows.flat().forEach((each) => { each.tabIndex = -1; });
      if (rows.length) rows[0][0].tabIndex = 0;
      map.addEventListener("keydown", (event) => {
        const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
          Home: [0, -1e6], End: [0, 1e6], PageDown: [10, 0], PageUp: [-10, 0] };
        const cell = event.target.closest("a");
        const move = moves[event.key];
        if (!cell || !move) return;
        event.preventDefault();
        const shown = rows.filter((row) => visible(row[0]));
        const y = shown.findIndex((row) => row.includes(cell));
        const to = shown[Math.min(Math.max(y + move[0], 0), shown.length - 1)];
        const next = to[Math.min(Math.max(shown[y].indexOf(cell) + move[1], 0), to.length - 1)];
        rows.flat().forEach((each) => { each.tabIndex = -1; });
        next.tabIndex = 0;
        next.focus();
      });
    }

    // ---- tables whose columns sort
    all("table.lp-sorts").forEach((table) => {
      all("thead button", table).forEach((button) => button.addEventListener("click", () => {
        const head = button.closest("th");
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.children[head.cellIndex]?.dataset.k ?? row.children[head.cellIndex]?.textContent ?? "";
        const body = table.tBodies[0];
        const sorted = [...body.rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          const by = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y, undefined, { numeric: true });
          return up ? by : -by;
        });
        body.append(...sorted);
      }));
    });

    // ---- on paper the evidence of what is not proven is unfolded
    let unfolded = [];
    addEventListener("beforeprint", () => {
      unfolded = all(".lp-check:not([open])").filter((each) => ["fail", "unproven"].includes(each.dataset.v));
      unfolded.forEach((each) => { each.open = true; });
    });
    addEventListener("afterprint", () => unfolded.forEach((each) => { each.open = false; }));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", wire);
  else wire();
})();
