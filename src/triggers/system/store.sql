-- name: server
-- PostgreSQL shows the transactions of other roles only to members of pg_read_all_stats.
select now() as now, current_setting('server_version') as version,
    current_setting('max_connections')::int as max_connections,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
    coalesce(greatest(
        (select max(age(backend_xmin)) from pg_stat_activity),
        (select max(greatest(age(xmin), age(catalog_xmin))) from pg_replication_slots),
        (select max(age(transaction)) from pg_prepared_xacts)
    ), 0) as oldest_xmin_age,
    (
        select extract(epoch from clock_timestamp() - min(xact_start))::float8 from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()
    ) as oldest_transaction_seconds,
    (select max(number) from schema_migrations) as migration

-- name: api_processes
select substr(application_name, length($1) + 1) as name, count(*) as connections, min(backend_start) as since,
    max(state_change) as last_active_at,
    greatest(0, extract(epoch from clock_timestamp() - max(state_change)))::float8 as idle_seconds
from pg_stat_activity
where datname = current_database() and starts_with(application_name, $1) and state_change is not null
group by 1 order by 1 limit $2

-- name: workers
select w.id, w.name, w.started_at, w.heartbeat_at,
    greatest(0, extract(epoch from clock_timestamp() - w.heartbeat_at))::float8 as heartbeat_age_seconds,
    (select count(*) from lane_groups g where g.worker_id = w.id) as groups, w.lanes
from workers w where w.dead_at is null order by w.started_at, w.id limit $1

-- name: groups
select count(*) as total, count(*) filter (where worker_id is null) as without_owner from lane_groups

-- name: tables
select r.relname as name, sum(pg_total_relation_size(c.oid))::bigint as size_bytes,
    greatest(sum(pg_stat_get_live_tuples(c.oid)), 0)::bigint as live_rows,
    greatest(sum(pg_stat_get_dead_tuples(c.oid)), 0)::bigint as dead_rows,
    count(*) filter (where c.relispartition) as partitions,
    max(greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid))) as vacuumed_at
from pg_class c join pg_class r on r.oid = coalesce(pg_partition_root(c.oid), c.oid)
where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
group by r.oid, r.relname order by 2 desc nulls last, 1 limit $1
