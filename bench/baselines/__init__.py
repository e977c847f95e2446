"""The two stacks of the performance session of 10 November 2025, with each of its steps as a switch.

Written from the description of that session. `app.py` runs in an environment of its own, and imports
nothing of this service.
"""
