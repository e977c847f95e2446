"""`triggers bench`: measures a running service over HTTP, from any machine.

Imports only what lies below every room, and is not part of the service: it has no store and no database.
Keeps: an organisation that is in use is not touched, only ids that this run sent are acknowledged, and what a
run creates is removed at its end, also if the run is interrupted.
"""
