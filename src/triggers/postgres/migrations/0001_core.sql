-- Organisations, keys, the event log, what is owed and what became of it.
-- org_id leads every key of the tables that grow, so that they can be distributed by it.

create table organisations (
    id uuid primary key,
    name text not null unique check (length(name) between 1 and 255),
    plan text not null check (plan in ('free', 'pro', 'business', 'enterprise')),
    custom_quota integer check (custom_quota > 0),
    max_subscriptions integer not null default 1000,
    -- How many deliveries an event may cost; kept by the statements that make and end subscriptions.
    subscription_count integer not null default 0 check (subscription_count >= 0),
    created_at timestamptz not null,
    check (custom_quota is null or plan = 'enterprise')
);

create table api_keys (
    id uuid primary key,
    org_id uuid not null references organisations,
    name text,
    prefix text not null check (length(prefix) = 12),
    hash text not null unique check (hash ~ '^[0-9a-f]{64}$'),
    scopes text[] not null
        check (scopes <@ array['events:write', 'events:read', 'inbox', 'subscriptions', 'keys', 'admin']),
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
create index api_keys_by_prefix on api_keys (prefix);
create index api_keys_by_org on api_keys (org_id, id);

-- One row per thing that nodes cache; raised in the transaction of each change.
create table versions (
    name text primary key,
    version bigint not null default 1
);
insert into versions (name) values ('keys');

create table subscriptions (
    org_id uuid not null,
    id uuid not null,
    kind text not null check (kind in ('inbox', 'push')),
    key text check (length(key) between 1 and 100),
    status text not null default 'active' check (status in ('active', 'paused', 'disabled', 'deleting')),
    status_reason text,
    status_at timestamptz not null,
    created_at timestamptz not null,
    deleted_at timestamptz, -- the rows it left behind are settled: only the tombstone remains
    event_types text[],     -- as asked for; null is every type
    type_names text[] not null default '{}',    -- event_types taken apart for the match in accept
    type_prefixes text[] not null default '{}',
    all_types boolean not null,
    max_leases integer check (max_leases > 0),
    retention interval,
    primary key (org_id, id),
    check (deleted_at is null or status = 'deleting'),
    check (kind = 'push' or key is not null)
);
create unique index subscriptions_by_key on subscriptions (org_id, kind, key) where status <> 'deleting';
create index subscriptions_being_deleted on subscriptions (status_at)
    where status = 'deleting' and deleted_at is null;

-- Insert-only; the id is the time, so that a read by id touches one partition.
create table events (
    org_id uuid not null,
    id uuid not null,
    type text not null,
    payload bytea not null, -- the bytes as they were sent
    dedup_id text,
    source text,
    subject text,
    ordering_key text,
    occurred_at timestamptz,
    primary key (org_id, id)
) partition by range (id);

create table dedup (
    org_id uuid not null,
    dedup_id text not null,
    event_id uuid not null,
    fingerprint bytea not null, -- SHA-256 of the type, a NUL and the payload
    expires_at timestamptz not null,
    primary key (org_id, dedup_id)
);
create index dedup_by_expiry on dedup (expires_at);

-- What is owed and not settled. As small as the backlog: no payload, and a settled row leaves.
create table deliveries (
    org_id uuid not null,
    subscription_id uuid not null,
    event_id uuid not null,
    generation integer not null default 0,
    status text not null default 'pending' check (status in ('pending', 'leased')),
    due_at timestamptz not null,      -- when it may next be taken; of a leased one, when the lease ends
    accepted_at timestamptz not null, -- the database's time at the insert: the order of acceptance
    payload_size integer not null,
    lease_count integer not null default 0,
    lease_id uuid,
    primary key (org_id, subscription_id, event_id, generation),
    check ((status = 'leased') = (lease_id is not null))
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
create index deliveries_by_due on deliveries (org_id, subscription_id, due_at, event_id);
create index deliveries_by_lease on deliveries (org_id, subscription_id, lease_id) where lease_id is not null;

-- What became of each delivery. Append-only, partitioned and dropped like the log.
create table settled_deliveries (
    org_id uuid not null,
    subscription_id uuid not null,
    event_id uuid not null,
    generation integer not null,
    status text not null check (status in ('delivered', 'acknowledged', 'dead', 'cancelled', 'expired')),
    reason text,
    lease_count integer not null,
    accepted_at timestamptz not null,
    settled_at timestamptz not null,
    primary key (org_id, subscription_id, event_id, generation)
) partition by range (event_id);
-- Dead letters and their like are listed; what went well is found by its event.
create index settled_deliveries_unhappy on settled_deliveries (org_id, subscription_id, status, event_id)
    where status in ('dead', 'cancelled', 'expired');
