"""HTTP in. Routes are one table (`routes.py`); the accept path stands in front of the framework."""
