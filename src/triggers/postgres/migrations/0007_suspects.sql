-- Deliveries that may have killed an owner of their lanes are counted before they are sent.

alter table lane_groups
    add column suspects_until timestamptz; -- of the owner lost last: it sent nothing that was due later
