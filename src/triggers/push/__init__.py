"""The worker: it finds due deliveries, sends them, judges the answers, and records the results.

Imports deliveries and what lies below, but no room of the same layer.
Keeps: every delivery is attempted until it is settled, and two workers never begin attempts of it at the same
time.
"""
