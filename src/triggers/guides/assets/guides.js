// Copying code, and results while a search is typed. Every page works without this file.
(() => {
  "use strict";

  async function write(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // plain http has no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await write(button.previousElementSibling.textContent.trimEnd());
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1200);
    });
  }

  // ---- searching: the list of results is a part of the page that the form would open -----------------

  const input = document.querySelector("[data-search]");
  const found = document.querySelector("[data-found]");
  let waiting;
  let asked = "";

  async function show() {
    const query = asked = input.value.trim();
    if (!query) return void (found.hidden = true);
    const answer = await fetch(`${input.form.action}?q=${encodeURIComponent(query)}`);
    if (!answer.ok || query !== asked) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    found.replaceChildren(page.querySelector("#results"));
    found.hidden = false;
  }

  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 150);
  });
  document.addEventListener("click", (event) => {
    if (!input.form.contains(event.target)) found.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") found.hidden = true;
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.select();
    }
  });
})();
