"""Replays and backfills: durable jobs that owe past events to a subscription again.

Imports deliveries and what lies below.
Keeps: a job goes on where it was after kill -9, and owes each event once.
"""
