"""Receives orders by webhook: `SECRET=whsec_… uvicorn receiver:app`."""

import os

from starlette.applications import Starlette
from starlette.routing import Route

from triggers_client import Webhook
from triggers_client.receivers.seen import SeenInMemory
from triggers_client.receivers.starlette import receiver


@receiver(os.environ["SECRET"].split(), seen=SeenInMemory())
async def ship(webhook: Webhook) -> None:
    print(f"shipped {webhook.data['order']}", flush=True)


app = Starlette(routes=[Route("/hooks", ship, methods=["POST"])])
