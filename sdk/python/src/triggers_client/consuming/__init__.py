"""Consumers: lease messages of an inbox, handle them, and acknowledge them.

One engine (`engine.py`) serves both halves of the library. It runs in an event loop. Handlers of the
synchronous half run in threads.
"""
