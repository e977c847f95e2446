// Keys, copying, and times in the viewer's zone. Every page works without this file.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const two = (number) => String(number).padStart(2, "0");

  // ---- times ----------------------------------------------------------------------------------

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function rough(seconds) {
    const [size, unit] = units.find(([size]) => seconds >= size) || units[3];
    return `${Math.round(seconds / size)} ${unit}`;
  }

  function relative(when) {
    const seconds = (when - Date.now()) / 1000;
    if (Math.abs(seconds) < 1) return "now";
    return seconds > 0 ? `in ${rough(seconds)}` : `${rough(-seconds)} ago`;
  }

  function day(when) {
    return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
  }

  function clock(when) {
    const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
    return day(when) === day(new Date()) ? time : `${day(when)} ${time}`;
  }

  function tellTimes() {
    for (const element of all("time[datetime]")) {
      const when = new Date(element.dateTime);
      const text = element.dataset.style === "clock" ? clock(when) : relative(when);
      if (element.textContent !== text) element.textContent = text;
      element.title = when.toString();
    }
  }

  // ---- copying --------------------------------------------------------------------------------

  async function write(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // plain http has no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  async function copy(button) {
    const url = button.dataset.copyUrl;
    let text = button.dataset.copy;
    if (url) {
      const answer = await fetch(url, { credentials: "same-origin" });
      if (!answer.ok) return;
      text = await answer.text();
    }
    await write(text);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-copy-url]");
    if (button) copy(button);
    for (const open of all("details[data-closes][open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });

  // ---- keys -----------------------------------------------------------------------------------

  function move(step) {
    const rows = all("[data-row]").filter((row) => row.offsetParent);
    const at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    if (next) next.focus();
  }

  const keys = {
    "/": () => document.querySelector("[data-search]")?.select(),
    j: () => move(1),
    k: () => move(-1),
    "?": () => document.getElementById("keys")?.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      if (typing) typing.blur();
      for (const open of all("details[data-closes][open]")) open.open = false;
    } else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  // ---- the page, now and after each part that is swapped ----------------------------------------

  function prepare() {
    tellTimes();
    for (const button of all("[data-copy][hidden], [data-copy-url][hidden]")) button.hidden = false;
  }

  prepare();
  document.addEventListener("htmx:after:swap", prepare);
  setInterval(() => document.hidden || tellTimes(), 10000);
})();
