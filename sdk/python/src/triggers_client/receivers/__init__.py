"""Receivers of webhooks for web frameworks: `starlette` (also for FastAPI), `flask` and `django`.

Each makes an endpoint of a handler: 401 if the signature is wrong, 204 if the handler returned now or before,
503 while it still handles another attempt of the same delivery, and the framework's 500 if it raised. After
503 and 500 the service sends the webhook again.
"""
