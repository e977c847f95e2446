"""Trying a subscription out: test deliveries, samples, dry runs.

Imports deliveries and what lies below.
Keeps: a test never reaches another subscription.
"""
