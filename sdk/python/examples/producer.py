"""Sends orders. Run it as often as you like: the same order is stored once."""

import sys

from triggers_client import Triggers

with Triggers() as client:
    client.inboxes.ensure("orders", event_types=["order.*"])
    orders = (
        {"type": "order.paid", "payload": {"order": n}, "dedup_id": f"order-{n}"}
        for n in range(int(sys.argv[1]))
    )
    report = client.events.send_many(orders)
    for item in report.failed:
        print(f"order {item.index}: {item.error}")
    print(f"{len(report.accepted)} sent")
