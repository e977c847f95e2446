-- What each process counted, by minute, and the same by hour, summed over processes. The subscription with the id of
-- zeros is the whole organisation: its row contains the numbers of all subscriptions.

create table statistics_minutes (
    org_id uuid not null,
    subscription_id uuid not null,
    began_at timestamptz not null,
    process_id uuid not null,      -- zeros in the rows that have a backlog
    accepted bigint not null default 0,
    duplicate bigint not null default 0,
    delivered bigint not null default 0,
    failed bigint not null default 0,
    dead bigint not null default 0,
    lag integer[] check (cardinality(lag) = 16), -- how many first attempts by their lag; null if there were none
    backlog integer,               -- unsettled deliveries of the organisation in this minute, capped
    primary key (org_id, subscription_id, began_at, process_id)
) partition by range (began_at);
create index statistics_minutes_by_time on statistics_minutes (began_at);

create table statistics_hours (
    org_id uuid not null,
    subscription_id uuid not null,
    began_at timestamptz not null,
    accepted bigint not null,
    duplicate bigint not null,
    delivered bigint not null,
    failed bigint not null,
    dead bigint not null,
    lag bigint[] check (cardinality(lag) = 16),
    backlog integer,               -- the highest of the hour
    primary key (org_id, subscription_id, began_at)
) partition by range (began_at);

-- Until when something is done for all nodes: hours that were made, minutes whose backlog was sampled.
create table statistics_progress (
    name text primary key check (name in ('hours', 'backlog')),
    done_until timestamptz not null
);
