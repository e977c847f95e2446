-- The name of the consumer that holds the lease. A node of an earlier version does not change this column, so a message
-- that such a node leases or releases may keep the name of an earlier consumer.

alter table deliveries
    add column consumer text; -- without a CHECK, which would read the whole table under a lock

-- Jobs that retry or cancel pending deliveries. While they run, their status is `acting`, because a node of an earlier
-- version runs every job with the status `running` as a replay.

alter table replays
    add column action text not null default 'replay',
    add constraint replays_action_check check (action in ('replay', 'retry', 'cancel')),
    drop constraint replays_status_check,
    add constraint replays_status_check check (status in ('running', 'acting', 'done', 'cancelled', 'failed'));
create index replays_acting on replays (updated_at) where status = 'acting';
