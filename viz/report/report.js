// Filters the list of episodes when a number is clicked, copies commands, and switches the theme.
// The filter is part of the address, so that a filtered list can be shared as a link.
"use strict";

const root = document.documentElement;

document.querySelector("#theme").addEventListener("click", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-filter]");
  if (link) {
    event.preventDefault();
    location.hash = `${link.hash}?${link.dataset.filter}`;
  }
  const copy = event.target.closest("button.copy");
  if (copy) {
    navigator.clipboard?.writeText(copy.dataset.command).then(() => {
      copy.textContent = "copied";
      setTimeout(() => (copy.textContent = "copy"), 1200);
    });
  }
  if (event.target.closest("button.all")) location.hash = event.target.closest(".card").id;
});

/** Texts of the filters, shown above the list. */
const WORDS = {
  task: (value) => `task ${value}`,
  outcome: (value) => value,
  event: (value) => value,
  judged: () => "ran to their end",
  failed: () => "failed",
  through: (value) => (value === "0" ? "have stages and ran to their end" : `passed stage ${value}`),
  kind: (value) => `goals of ${value}`,
  stage: (value) => `failed at “${value}”`,
};

/** Returns whether a row passes a filter. `through` is a minimum; other values must be equal. */
function matches(row, filter) {
  return [...filter].every(([name, value]) => (name === "through" ? Number(row.dataset[name]) >= Number(value) : row.dataset[name] === value));
}

function applyAddress() {
  const [id, query = ""] = location.hash.slice(1).split("?");
  const filter = new URLSearchParams(query);
  const target = document.getElementById(id);
  for (const card of document.querySelectorAll(".episodes")) {
    const isFiltered = card === target && query !== "";
    const rows = [...card.querySelectorAll("tbody tr")];
    for (const row of rows) row.hidden = isFiltered && !matches(row, filter);
    const n = rows.filter((row) => !row.hidden).length;
    const bar = card.querySelector(".filter");
    bar.classList.toggle("on", isFiltered);
    const words = [...filter].map(([name, value]) => WORDS[name](value.replaceAll("_", " ")));
    bar.querySelector("b").textContent = `${n} of ${rows.length}: ${words.join(", ")}`;
  }
  if (query) target?.scrollIntoView();
}

addEventListener("hashchange", applyAddress);
applyAddress();
