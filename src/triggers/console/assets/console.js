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

  const day = (when) => `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;

  function clock(when) {
    const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
    return day(when) === day(new Date()) ? time : `${day(when)} ${time}`;
  }

  const tellers = { relative, clock, next: (when) => relative(Math.max(when, Date.now())) };
  function tellTimes() {
    for (const element of all("time[datetime]")) {
      const when = new Date(element.dateTime);
      const text = tellers[element.dataset.style](when);
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
    for (const each of all(keptOpen)) each.open = each.contains(event.target);
  });

  // ---- keys -----------------------------------------------------------------------------------

  const [inRow, keptOpen] = ["a[href], summary", "details[data-closes][open]"];

  function move(step) {
    const rows = all("[data-row]").filter((row) => row.checkVisibility());
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    if (next) (next.matches(inRow) ? next : next.querySelector(inRow) || next).focus();
  }

  function close(target) {
    const open = all(keptOpen);
    for (const each of open) {
      if (each.contains(target)) each.querySelector("summary").focus();
      each.open = false;
    }
    if (!open.length) target.blur();
  }
  const keys = {
    "/": () => document.querySelector("[data-search]")?.select(),
    j: () => move(1),
    k: () => move(-1),
    "?": () => document.querySelector("#keys:not([open])")?.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, select, input:not([type=checkbox], [type=radio])");
    if (event.key === "Escape") close(event.target);
    else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  // ---- the stream of the page -------------------------------------------------------------------

  const live = document.getElementById("live");
  const tail = document.querySelector("[data-tail]");
  const streaming = (state) => (document.documentElement.dataset.stream = state);
  let held = null; // the last fragment that came while somebody read the list
  const isRead = () => scrollY > 8 || !getSelection().isCollapsed || tail.matches(":hover, :focus-within");

  function release() {
    tail.toggleAttribute("data-held", isRead());
    if (held === null || isRead()) return;
    htmx.swap({ sourceElement: tail, target: tail, swap: "innerHTML", text: held });
    held = null;
  }

  const on = (name, work) => document.addEventListener(name, work);
  const reading = ["scroll", "pointerover", "focusin", "focusout", "selectionchange"];
  if (tail) for (const name of reading) on(name, () => setTimeout(release));
  on("htmx:sse:before:message", (event) => {
    if (event.target !== tail || event.detail.message.event || !isRead()) return;
    held = event.detail.message.data;
    event.detail.cancelled = true;
  });
  on("told", (event) => (document.querySelector("[data-told]").textContent = event.detail.data));
  on("reload", () => location.reload());
  on("htmx:sse:after:connection", () => streaming("on"));

  // Only a page that is looked at has a stream. If it did not open, the page tries again.
  const show = () => document.hidden || live?.dispatchEvent(new Event("shown"));
  const lost = (event) => event.target === live && (streaming("off"), setTimeout(show, 10000));
  for (const name of ["refused", "htmx:sse:error", "htmx:error", "htmx:response:error"]) on(name, lost);
  document.addEventListener("htmx:after:process", show, { once: true });
  on("visibilitychange", show);
  addEventListener("pagehide", () => live && htmx.trigger(live, "htmx:abort")); // browsers keep left pages

  // ---- the page, now and after each part that is swapped ----------------------------------------

  function prepare() {
    tellTimes();
    for (const button of all("[data-copy][hidden], [data-copy-url][hidden]")) button.hidden = false;
  }

  prepare();
  on("htmx:after:swap", prepare);
  setInterval(() => document.hidden || tellTimes(), 10000);
})();
