"""The webhook requests in the OpenAPI document. `body_format.py` makes the bodies; a test compares both."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.http.views import Timestamp

Payload = Annotated[Any, Meta(description="The payload, byte for byte as it was sent.")]


class StandardBody(msgspec.Struct, forbid_unknown_fields=True):
    """A delivery in the format `standard`. `timestamp` is `occurred_at`, else the time of acceptance."""

    id: UUID
    type: str
    timestamp: Timestamp
    data: Payload


class CloudEvent(msgspec.Struct, kw_only=True):
    """A delivery in the format `cloudevents`: CloudEvents 1.0, structured. Other members are the extension
    attributes of an event that came as a CloudEvent."""

    specversion: Literal["1.0"]
    id: UUID
    source: Annotated[str, Meta(description="The event's `source`, else `/orgs/<organisation>`.")]
    type: str
    subject: Annotated[str, Meta(description="Omitted if the event has none.")] = ""
    time: Timestamp
    datacontenttype: Literal["application/json"]
    dataschema: Annotated[str, Meta(description="Omitted if the event did not come with one.")] = ""
    data: Payload


class Notice(msgspec.Struct, forbid_unknown_fields=True):
    """An inbox has received messages. To get their payloads, lease the messages."""

    inbox_id: UUID
    received_message_count: Annotated[int, Meta(ge=1, description="Number of messages.")]
    redelivery: Annotated[bool, Meta(description="Whether this is a repeated attempt.")]


TYPES = (StandardBody, CloudEvent, Notice)


def webhooks() -> dict[str, Any]:
    """The `webhooks` of the document: what is POSTed to subscribers, and what their answers mean."""
    standard, cloud_event, notice = ({"$ref": f"#/components/schemas/{each.__name__}"} for each in TYPES)
    raw = {"description": "The format `raw`: the payload and nothing else."}
    return {
        "delivery": _webhook(
            "An event, to the `target_url` of a subscription that it matches",
            "receive_delivery",
            {
                "application/json": {"schema": {"anyOf": [standard, raw]}},
                "application/cloudevents+json": {"schema": cloud_event},
            },
        ),
        "notice": _webhook(
            "A notice, to the `notification_url` of an inbox that received messages",
            "receive_notice",
            {"application/json": {"schema": notice}},
        ),
    }


def _webhook(summary: str, operation_id: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "description": "Signed as Standard Webhooks requires. It is sent at least once, with the same"
            " `webhook-id` each time. A replay also has the same `webhook-id`, but a higher"
            " `triggers-generation`.",
            "operationId": operation_id,
            "parameters": [
                _header("webhook-id", "The event's id.", {"type": "string", "format": "uuid"}),
                _header("webhook-timestamp", "Seconds since 1970, of this attempt.", {"type": "string"}),
                _header("webhook-signature", "`v1,…` or `v1a,…`, separated by spaces.", {"type": "string"}),
                _header(
                    "triggers-subscription", "The subscription's id.", {"type": "string", "format": "uuid"}
                ),
                _header(
                    "triggers-generation",
                    "0 for the first delivery of the event to the subscription. Each replay, and each retry"
                    " of a settled delivery, adds 1.",
                    {"type": "string", "pattern": "^[0-9]+$"},
                ),
            ],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "2XX": {"description": "Received."},
                "410": {"description": "Gone: the subscription is disabled, what is queued is cancelled."},
                "429": _come_back("Tried again after `Retry-After`, else by the schedule."),
                "5XX": _come_back("Tried again after `Retry-After`, else by the schedule."),
                "default": {
                    "description": "Tried again by the schedule. Redirects are not followed.",
                    "headers": {
                        "webhook-delivery": {
                            "description": "`abort-message` ends this delivery, `disable` the subscription.",
                            "schema": {"enum": ["abort-message", "disable"]},
                        }
                    },
                },
            },
        }
    }


def _header(name: str, description: str, schema: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


def _come_back(description: str) -> dict[str, Any]:
    text = "Seconds or an HTTP date, at most a day ahead."
    return {
        "description": description,
        "headers": {"Retry-After": {"description": text, "schema": {"type": "string"}}},
    }
