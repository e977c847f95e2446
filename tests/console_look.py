"""Judges how a page of the console looks: tokens, sizes, overflow, shift of layout, and accessibility."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from playwright.async_api import Page

AXE = gzip.decompress((Path(__file__).parent / "data" / "axe-4.14.1.min.js.gz").read_bytes()).decode()

VIOLATIONS = """const violations = async (rules) => {
  const found = await axe.run(document, {runOnly: rules, resultTypes: ["violations"], preload: false});
  return found.violations.map((each) =>
    `${each.id}: ${each.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
};"""

SHIFT = """() => new Promise((resolve) => {
  new PerformanceObserver((seen) => resolve(seen.getEntries()
    .filter((each) => !each.hadRecentInput) // a part that was opened by hand moves what follows
    .reduce((sum, each) => sum + each.value, 0)))
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => resolve(0), 100);
})"""

# Sizes, spaces, radii and colours come from the tokens. Positions, such as the top of a mark, do not.
TOKENS = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  const names = rules.filter((rule) => rule.selectorText === ":root").flatMap((rule) => [...rule.style])
    .filter((name) => name.startsWith("--"));
  const resolved = (property, name) => {
    probe.style[property] = `var(${name})`;
    return getComputedStyle(probe)[property];
  };
  const colours = new Set(["rgba(0, 0, 0, 0)", ...names.map((name) => resolved("color", name))]);
  const sizes = new Set(names.filter((name) => name.startsWith("--size-"))
    .map((name) => resolved("fontSize", name)));
  const spaces = new Set([0, ...names.filter((name) => name.startsWith("--space-"))
    .map((name) => parseFloat(resolved("paddingTop", name)))]);
  const radii = new Set(["0px", "50%", ...names.filter((name) => name.startsWith("--radius-"))
    .map((name) => resolved("borderTopLeftRadius", name))]);
  probe.remove();
  const sides = ["top", "right", "bottom", "left"];
  const around = sides.flatMap((side) => [`padding-${side}`, `margin-${side}`]);
  const spacing = ["row-gap", "column-gap", ...around];
  const found = new Set();
  for (const each of document.querySelectorAll("main, main *, header, header *")) {
    if (!each.checkVisibility() || each.closest("svg, option")) continue;
    const style = getComputedStyle(each);
    const text = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const wrong = [];
    if (text && !sizes.has(style.fontSize)) wrong.push(`font-size ${style.fontSize}`);
    if (text && !colours.has(style.color)) wrong.push(`color ${style.color}`);
    if (!colours.has(style.backgroundColor)) wrong.push(`background ${style.backgroundColor}`);
    if (!radii.has(style.borderTopLeftRadius)) wrong.push(`radius ${style.borderTopLeftRadius}`);
    for (const side of sides)
      if (style[`border-${side}-width`] !== "0px" && !colours.has(style[`border-${side}-color`]))
        wrong.push(`border ${style[`border-${side}-color`]}`);
    const specified = each.computedStyleMap(); // a margin of `auto` has another used value on each screen
    for (const name of spacing) {
      const value = specified.get(name);
      if (value.unit === "px" && !spaces.has(Math.abs(value.value))) wrong.push(`${name} ${value}`);
    }
    if (["hidden", "clip"].includes(style.overflowX) && text && each.scrollWidth > each.clientWidth + 1
        && !each.closest("[title], .unseen, summary")) // a summary opens, and shows all of its text
      wrong.push("clipped");
    for (const fault of wrong) found.add(`${each.tagName.toLowerCase()}.${each.className}: ${fault}`);
  }
  return [...found];
}"""

LOOK = (
    """async () => {
"""
    + VIOLATIONS
    + """
  const root = document.documentElement;
  const small = [...document.querySelectorAll("button, summary, input, nav a, .button, .tabs a")]
    .filter((each) => each.checkVisibility() && each.type !== "hidden")
    .map((each) => [each.textContent.trim() || each.name, each.getBoundingClientRect()])
    .filter(([, box]) => box.width < 24 || box.height < 24)
    .map(([name, box]) => `${name}: ${box.width} × ${box.height}`);
  const odd = ("""
    + TOKENS
    + """)();
  const shift = await ("""
    + SHIFT
    + """)();
  const faults = await violations(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]);
  // A relative time that grows by a digit moves its neighbours by less than a thousandth.
  const moved = Math.round(shift * 1000) / 1000;
  const over = root.scrollWidth - Math.round(root.getBoundingClientRect().width);  // without the scrollbar
  return {over, small, odd, shift: moved, faults};
}"""
)


# A theme changes nothing but colours.
COLOURS = (
    """async () => {
"""
    + VIOLATIONS
    + """
  return await violations({type: "rule", values: ["color-contrast", "link-in-text-block"]});
}"""
)


async def faults_of(page: Page) -> dict[str, Any]:
    """What is wrong with the page that is shown: only what is, so that a good page has none."""
    await _bring_axe(page)
    found = await page.evaluate(LOOK)
    return {name: value for name, value in found.items() if value}


async def faults_in_both(page: Page) -> dict[str, Any]:
    """The same, and what is wrong with its colours in the dark theme. The page stays in the light one."""
    found = await faults_of(page)
    await page.emulate_media(color_scheme="dark")
    if dark := await page.evaluate(COLOURS):
        found["dark"] = dark
    await page.emulate_media(color_scheme="light")
    return found


async def shift_of(page: Page) -> float:
    """How far the parts of the page have moved by themselves since it was loaded. 0: nothing has."""
    return float(await page.evaluate(SHIFT))


async def _bring_axe(page: Page) -> None:
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
