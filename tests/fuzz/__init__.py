"""A bounded fuzzer that plays hostile callers and hostile endpoints against a real service.

`python -m fuzz` runs it; `wire.py` is the attack over raw sockets, `api.py` the cases that Schemathesis
makes from the OpenAPI document. A seed makes the choices repeatable, though not the timing.
"""
