"""Organisations, their API keys and plans, and the rate limits of the plans.

Imports postgres, http and secrets.
Keeps: a revoked key stops working within a second, and no key is stored in a form that can be used.
"""
