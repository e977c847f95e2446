"""The profile `deliver`: from sending an event until it arrives at an endpoint."""

from __future__ import annotations

import re
from typing import Final
from uuid import uuid4

from triggers.bench_client.load import Measured, open_loop
from triggers.bench_client.progress import RunProgress
from triggers.bench_client.receiver import BenchReceiver
from triggers.bench_client.service import MeasuredService
from triggers.bench_client.size import Pace, ReceiverAddress
from triggers.bench_client.workload import Call, Workload
from triggers.errors import OperatorError

RECEIVED: Final = "sent → received"
_PATIENCE_SECONDS: Final = 30
_NUMBER = re.compile(rb'"number":(\d+)')
_REFUSED: Final = (
    " The service has to be allowed to deliver to the receiver. For a receiver on its own machine, start it"
    " with --dev, or with TRIGGERS_OUTBOUND_ALLOW=127.0.0.0/8 and TRIGGERS_OUTBOUND_ALLOW_HTTP=1."
)


async def deliver(
    service: MeasuredService,
    address: ReceiverAddress,
    pace: Pace,
    progress: RunProgress,
) -> Measured:
    """Send events at a fixed rate, and time each until it arrives. The subscription is deleted afterwards.

    Raises:
        OperatorError: the service refused the subscription, or the receiver cannot listen.
    """
    receiver = BenchReceiver()
    port = await receiver.start(address.host, address.port)
    host = f"[{address.host}]" if ":" in address.host else address.host
    base = (address.url or f"http://{host}:{port}").rstrip("/")
    workload = Workload(service, f"triggers-bench.deliver-{uuid4().hex[:12]}")
    try:
        subscription = await _subscribe(service, base + receiver.path, workload.event_type)
        try:
            return await _measure(service, workload, receiver, pace, progress)
        finally:
            await service.try_ask("DELETE", f"/v1/subscriptions/{subscription}")
    finally:
        receiver.stop()


async def _subscribe(service: MeasuredService, url: str, event_type: str) -> str:
    body = {"target_url": url, "event_types": [event_type], "max_concurrency": 256}
    try:
        return str((await service.ask("POST", "/v1/subscriptions", body))["id"])
    except OperatorError as error:
        hint = _REFUSED if error.facts.get("status") == 422 else ""
        raise OperatorError(error.message + hint) from None


async def _measure(
    service: MeasuredService,
    workload: Workload,
    receiver: BenchReceiver,
    pace: Pace,
    progress: RunProgress,
) -> Measured:
    sent: list[int] = []

    def source() -> Call:
        call = workload.send_only()
        number = _NUMBER.search(call.request)
        assert number is not None
        sent.append(int(number[1]))
        return call

    measured = await open_loop(service, "deliver", source, pace, progress)
    await receiver.wait_for(len(sent), _PATIENCE_SECONDS)
    recording = measured.recordings[RECEIVED]
    for place, number in enumerate(sent):
        if (arrived := receiver.arrived.get(number)) is None:
            recording.add_error("not received")
        else:
            recording.add(arrived - (measured.began + place / pace.rate))
    return measured
