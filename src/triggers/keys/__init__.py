"""Organisations, their API keys, their plans, and how many requests a plan allows.

Imports postgres, http and secrets.
Keeps: a revoked key stops working within a second, and no key is stored in a form that can be used.
"""
