"""The asynchronous half. The synchronous half, `_sync`, is generated from it by `make unasync`."""
