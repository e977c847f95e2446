-- The counts of each process by minute, and their sums over all processes by hour. A row whose subscription has the
-- id of zeros contains the numbers of the whole organisation.

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
    lag integer[] check (cardinality(lag) = 16), -- number of first attempts by lag; null if there were none
    backlog integer,               -- unsettled deliveries of the organisation, up to a maximum
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
    backlog integer,               -- the highest sample of the hour
    primary key (org_id, subscription_id, began_at)
) partition by range (began_at);

-- The progress of work that one node does for all: the hours that were made, and the minutes that were sampled.
create table statistics_progress (
    name text primary key check (name in ('hours', 'backlog')),
    done_until timestamptz not null
);
