-- Leases whose messages were all acknowledged, so that a repeated request is not taken for one that came too late.
-- The inbox is part of the key because callers may choose the ids of leases, in several inboxes the same.

create table finished_leases (
    org_id uuid not null,
    subscription_id uuid not null,
    lease_id uuid not null,
    ended_at timestamptz not null,
    primary key (org_id, subscription_id, lease_id)
);
create index finished_leases_by_end on finished_leases (ended_at);

alter table subscriptions
    add column default_lease_seconds integer check (default_lease_seconds between 1 and 3600); -- of inboxes
