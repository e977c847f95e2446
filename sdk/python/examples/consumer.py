"""Handles orders until SIGTERM. Its leases are renewed, and a bad order is put aside."""

from triggers_client import Message, Triggers

client = Triggers()


@client.inbox("orders").consumer(concurrency=8, max_attempts=5)
def ship(message: Message) -> None:
    order = message.payload.get("order")
    if not isinstance(order, int):
        message.reject("The order has no number.")
        return
    print(f"shipped {order}", flush=True)


ship.run()
