"""The processes: serve, api and worker; their settings and checks; and the table of all routes.

Imports every room; only the command line imports it.
Keeps: parts start and stop in order, and a process that cannot work says so and ends.
"""
