"""Trying out subscriptions and events: test deliveries, samples, dry runs, and the matches of an event.

Imports deliveries and what lies below.
Keeps: a test never reaches another subscription, and a dry run stores nothing.
"""
