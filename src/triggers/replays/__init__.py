"""Replays and backfills: durable jobs that create deliveries of past events.

Imports deliveries and what lies below.
Keeps: a job continues after kill -9, and creates one delivery for each event.
"""
