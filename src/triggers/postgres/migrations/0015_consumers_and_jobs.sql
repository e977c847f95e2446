-- Who holds a lease, by the name that the consumer gave. A node of an earlier version leaves the name of a lease that
-- ended at the message that it leases or releases next.

alter table deliveries
    add column consumer text; -- without a CHECK, which would read the whole table under a lock

-- Jobs that retry or cancel waiting deliveries. While they run their status is `acting`, because a node of an earlier
-- version would take each running job for a replay.

alter table replays
    add column action text not null default 'replay',
    add constraint replays_action_check check (action in ('replay', 'retry', 'cancel')),
    drop constraint replays_status_check,
    add constraint replays_status_check check (status in ('running', 'acting', 'done', 'cancelled', 'failed'));
create index replays_acting on replays (updated_at) where status = 'acting';
