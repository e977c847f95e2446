"""Receivers of webhooks for web frameworks: `starlette` (also for FastAPI), `flask` and `django`.

Each makes an endpoint of a handler: 401 if the signature is wrong, 204 if the handler returned or had the
webhook before, and the framework's 500 if it raised, so that the service sends the webhook again.
"""
