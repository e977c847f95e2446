"""Shares what tenants have in common: the time of the event loop (pace.py), and limited resources (room.py).

It knows no noun of the product and imports nothing of it. It keeps the promise that one tenant cannot take
everything while others wait.
"""
