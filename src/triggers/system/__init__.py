"""The state of the whole service for its operator: processes, PostgreSQL, Redis, disk and settings.

It imports domain, http and postgres. The node passes in what it knows of itself. Promise: the answer has no
secret, and its statements read only small tables and PostgreSQL's own statistics, for two seconds at most.
"""
