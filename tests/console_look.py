"""Judges how a page of the console looks: sizes, overflow, shift of layout, and accessibility."""

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
  const sizes = new Set(["12px", "13px", "14px", "16px", "20px", "28px"]);
  const odd = [...document.querySelectorAll("main *, header *")]
    .filter((each) => each.checkVisibility())
    .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((each) => !sizes.has(getComputedStyle(each).fontSize))
    .map((each) => `${each.tagName}.${each.className} ${getComputedStyle(each).fontSize}`);
  const shift = await ("""
    + SHIFT
    + """)();
  const faults = await violations(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]);
  // A relative time that grows by a digit moves its neighbours by less than a thousandth.
  const moved = Math.round(shift * 1000) / 1000;
  return {over: root.scrollWidth - root.clientWidth, small, odd: [...new Set(odd)], shift: moved, faults};
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
