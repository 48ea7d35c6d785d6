"use strict";
// Light or dark: as the system has it, until the button says otherwise.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try {
      return localStorage.getItem("hmtrace-theme");
    } catch {
      return null; // some browsers keep nothing for files
    }
  };
  const keep = (theme) => {
    try {
      localStorage.setItem("hmtrace-theme", theme);
    } catch {
      // it holds until the page is closed
    }
  };
  const current = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const announce = () => document.dispatchEvent(new Event("hmtrace-theme"));

  const chosen = kept();
  if (chosen === "light" || chosen === "dark") {
    root.dataset.theme = chosen;
  }
  dark.addEventListener("change", announce);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      const other = current() === "dark" ? "light" : "dark";
      button.textContent = other === "dark" ? "☾ Dark" : "☀ Light";
      button.setAttribute("aria-label", `Switch to ${other} colours`);
    };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      keep(root.dataset.theme);
      announce();
    });
    document.addEventListener("hmtrace-theme", label);
  });

  // Paper is white.
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    announce();
  });
  addEventListener("afterprint", () => {
    if (before) {
      root.dataset.theme = before;
    } else {
      delete root.dataset.theme;
    }
    announce();
  });
})();
