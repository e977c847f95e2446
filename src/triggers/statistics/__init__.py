"""Statistics: what became of events and deliveries, by minute and by hour.

Imports http and postgres, and what lies below.
Keeps: no number is counted twice, and a process that is killed loses at most what it had not written yet.
"""
