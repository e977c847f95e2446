"""Accepts events (validates, matches and stores them with their deliveries in one commit), and reads them.

Imports subscriptions and what lies below.
Keeps: 201 means committed, and payload bytes come back as they were sent.
"""
