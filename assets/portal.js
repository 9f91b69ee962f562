// Everything works without this. It copies, moves the focus, and asks before a secret is lost.
"use strict";

const first = document.querySelector("[data-focus]");
if (first) first.focus();

// A secret that is shown once.
const secret = document.querySelector("[data-leave]");
let isSaved = secret === null;

const status = document.querySelector(".copied");
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.focus();
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      status.textContent = status.dataset.copied;
      isSaved = true;
    } catch {
      // Browsers allow it only on encrypted pages.
      status.textContent = status.dataset.byHand;
    }
  });
}
document.querySelector("[data-saved]")?.addEventListener("click", () => {
  isSaved = true;
});
secret?.addEventListener("copy", () => {
  isSaved = true;
});
window.addEventListener("beforeunload", (event) => {
  if (!isSaved) event.preventDefault();
});

// A choice of a day chooses "on a day".
for (const day of document.querySelectorAll("input[type=date][name=date]")) {
  day.addEventListener("input", () => {
    const choice = day.form.querySelector("input[name=expires][value=date]");
    if (choice) choice.checked = true;
  });
}

// A second click sends nothing.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// `/` goes to the search.
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const search = document.querySelector("[data-search]");
  if (!search) return;
  event.preventDefault();
  search.focus();
});

// A click elsewhere, or Escape, closes the panel of the person.
const panel = document.querySelector("details.person");
document.addEventListener("click", (event) => {
  if (panel && !panel.contains(event.target)) panel.open = false;
});
panel?.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  panel.open = false;
  panel.querySelector("summary").focus();
});
