"""Trying a subscription out before it is relied on: test deliveries, samples, dry runs.

Imports deliveries and what lies below.
Keeps: nothing that is tried out here reaches another subscription.
"""
