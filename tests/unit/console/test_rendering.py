"""Pages are rendered in steps, so that a long one holds up nothing."""

from __future__ import annotations

import msgspec

from triggers.console import kit
from triggers.console.payload_tree import draw, draw_in_steps
from triggers.console.rendering import page, page_in_steps


def test_a_long_payload_takes_many_steps() -> None:
    payload = msgspec.json.encode([{"a": number, "b": "<i>"} for number in range(1_000)])
    steps = draw_in_steps(payload, 20_000)
    assert sum(1 for _ in steps) > 10
    samples = kit.samples() | {"tree": draw(payload, 20_000)}
    rendering = page_in_steps("kit.html", "", **samples)
    assert sum(1 for _ in rendering) > 100
    body = page("kit.html", "", **samples).body
    assert bytes(body).count(b"&lt;i&gt;") == 1_000
