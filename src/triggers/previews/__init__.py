"""Trying out before it counts: test deliveries, samples, dry runs, and what an event would match.

Imports deliveries and what lies below.
Keeps: a test never reaches another subscription, and a dry run stores nothing.
"""
