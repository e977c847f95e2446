"""The synchronous half, generated from `_async` by `sync_half.py`."""
