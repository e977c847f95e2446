"""The worker: it finds deliveries that are due, sends them, judges the answers, and settles.

Imports deliveries and what lies below; never another room that stands beside it.
Keeps: a delivery that is owed is tried until it is settled, and no two workers send one at the same time.
"""
