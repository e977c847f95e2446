"""Statistics: counts of events and deliveries, by minute and by hour.

Imports http and postgres, and what lies below.
Keeps: no number is counted twice, and a killed process loses only the counts that it had not written yet.
"""
