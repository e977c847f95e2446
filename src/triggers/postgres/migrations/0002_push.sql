-- Push: where deliveries go, who owns which lanes, what was tried, and jobs that look back.

alter table organisations
    -- 0 while no subscription needs the payload to be judged; raised by every change of one that does.
    -- Accept stores an event only if it was judged with this version.
    add column judging_version bigint not null default 0;

alter table subscriptions
    add column name text,
    add column changed_at timestamptz not null default now(), -- by every change that a lane must follow
    add column lane_group smallint,                           -- hash of the id; push only
    add column target_url text,
    add column notification_url text,                         -- inboxes: where thin notices go
    add column filter text,
    add column filter_error text,                             -- the last failure at run time
    add column filter_error_at timestamptz,
    add column format text check (format in ('standard', 'raw', 'cloudevents')),
    add column signature text check (signature in ('v1', 'v1a')),
    add column secrets bytea,                                 -- sealed: the secrets and when each ends
    add column headers bytea,                                 -- sealed: the subscription's own headers
    add column ordering text not null default 'none' check (ordering in ('none', 'key')),
    add column ordering_pointer text,                         -- JSON Pointer into the payload
    add column max_concurrency integer check (max_concurrency between 1 and 1000),
    add column rate_limit double precision check (rate_limit > 0),
    add column retry_delays double precision[],               -- seconds; null is the default schedule
    add column retry_deadline double precision check (retry_deadline > 0),
    add column expires_at timestamptz,
    add column last_success_at timestamptz,
    add column failing_since timestamptz,
    add column probe_at timestamptz,                          -- the breaker is open until a probe then
    add column probe_delay double precision,
    add check ((kind = 'push') = (target_url is not null)),
    add check ((kind = 'push') = (lane_group is not null)),
    add check (kind = 'inbox' or (format is not null and signature is not null and secrets is not null));
create index subscriptions_changed on subscriptions (lane_group, changed_at) where kind = 'push';
create index subscriptions_expiring on subscriptions (expires_at)
    where expires_at is not null and status in ('active', 'paused');
drop index subscriptions_being_deleted;
-- Those whose rows have still to follow the flag.
create index subscriptions_ending on subscriptions (status_at)
    where status in ('deleting', 'disabled') and deleted_at is null;

alter table deliveries
    add column lane_group smallint,             -- of push deliveries; null for an inbox
    add column attempts integer not null default 0,
    add column first_attempt_at timestamptz,
    add column ordering_key text,               -- only where the subscription orders by key
    add column reason text,                     -- why it is not delivered yet
    add check (lane_group is null or status = 'pending');
-- Which lanes became due lately: read as ranges of time, one for each group that a worker owns.
create index deliveries_due_lanes on deliveries (lane_group, due_at, org_id, subscription_id)
    where lane_group is not null;
-- The first of each key, due or not.
create index deliveries_by_key on deliveries (org_id, subscription_id, ordering_key, accepted_at, event_id, generation)
    where ordering_key is not null;

alter table settled_deliveries
    add column attempts integer not null default 0;

-- One row per HTTP request made. Append-only; the id is the time it began.
create table attempts (
    org_id uuid not null,
    subscription_id uuid not null,
    id uuid not null,
    event_id uuid not null,
    generation integer not null,
    attempt integer not null,
    outcome text not null check (outcome in ('delivered', 'retry', 'dead', 'cancelled')),
    reason text not null,
    status_code integer,
    response text,
    duration_ms integer not null,
    retry_at timestamptz,
    worker_id uuid not null,
    primary key (org_id, subscription_id, id)
) partition by range (id);
create index attempts_by_event on attempts (org_id, event_id);

-- Workers and the groups of lanes they own: small tables that every node reads whole.
create table workers (
    id uuid primary key,
    name text not null,
    started_at timestamptz not null,
    heartbeat_at timestamptz not null,
    dead_at timestamptz
);
create table lane_groups (
    id smallint primary key,
    worker_id uuid references workers,
    token uuid,                   -- the fence: a settle names it, a takeover changes it
    died_at timestamptz,          -- when an owner of this group last died
    probation_until timestamptz,
    check ((worker_id is null) = (token is null))
);
insert into lane_groups (id) select generate_series(0, 63);

-- Backfills and replays: bounded chunks at a rate, behind live deliveries.
create table replays (
    org_id uuid not null,
    id uuid not null,
    kind text not null check (kind in ('backfill', 'replay')),
    subscription_id uuid not null,
    status text not null check (status in ('running', 'done', 'cancelled', 'failed')),
    only_dead boolean not null default false,
    event_types text[],
    first_id uuid not null,       -- events with first_id <= id < end_id
    end_id uuid not null,
    position uuid not null,       -- everything below is done
    rate integer not null check (rate > 0), -- deliveries a second
    planned bigint,               -- how many it was expected to make; capped
    made bigint not null default 0,
    not_before timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz,
    reason text,
    primary key (org_id, id)
);
create index replays_running on replays (updated_at) where status = 'running';
