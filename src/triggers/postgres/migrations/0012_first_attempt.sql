-- A settled delivery keeps the time of its first attempt. Null for inboxes, for deliveries that had no attempt, and for
-- those that an earlier version settled.

alter table settled_deliveries
    add column first_attempt_at timestamptz;
