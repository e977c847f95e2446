"""Loaded by Schemathesis itself: keeps cases from ending what the run needs, and makes some reach further."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

OWN = {os.environ["FUZZ_KEY_ID"], os.environ["FUZZ_ORG_ID"]}
NOBODY = "00000000-0000-0000-0000-000000000000"
URLS = ("target_url", "notification_url")


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Revoke or rotate no key of ours, put ourselves on no other plan, deliver to a URL that is one, and
    wait for no message that does not come.

    The document cannot say which URLs are allowed. With any string in its place hardly a subscription is
    made, and no case gets to the routes behind one.
    """
    for name, value in case.path_parameters.items():
        if value in OWN and case.method.upper() not in ("GET", "HEAD", "OPTIONS"):
            case.path_parameters[name] = NOBODY
    valid = case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE
    if valid and isinstance(case.body, dict):
        for name in URLS:
            if isinstance(case.body.get(name), str):
                case.body[name] = os.environ["FUZZ_TARGET_URL"]
        if case.body.get("wait_seconds"):
            case.body["wait_seconds"] = 1
