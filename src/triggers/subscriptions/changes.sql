-- name: locked
select * from subscriptions where org_id = $1 and id = $2 and kind = 'push'

-- name: notifying
select id from subscriptions where org_id = $1 and notifies_inbox = $2 and status <> 'deleting'

-- name: change
-- Another URL is another endpoint: what was learnt of the last one is forgotten. One that fails is probed at once, because
-- it may have failed for its settings.
update subscriptions
set changed_at = $3, name = $4, target_url = $5, event_types = $6, type_names = $7, type_prefixes = $8,
    all_types = $9, filter = $10, format = $11, headers = $12, ordering = $13, ordering_pointer = $14,
    max_concurrency = $15, rate_limit = $16, retry_delays = $17, retry_deadline = $18, expires_at = $19,
    filter_error = case when filter is not distinct from $10 then filter_error end,
    filter_error_at = case when filter is not distinct from $10 then filter_error_at end,
    failing_since = case when target_url = $5 then failing_since end,
    probe_at = case when target_url = $5 and probe_at is not null then least(probe_at, $3) end,
    probe_delay = case when target_url = $5 then probe_delay end
where org_id = $1 and id = $2
returning *

-- name: set_status
-- One that is active again begins anew: nobody called its endpoint meanwhile, and it has not failed since.
update subscriptions
set status = $4, status_reason = $5, status_at = $3, changed_at = $3, emptied_at = null,
    failing_since = case when $4 <> 'active' then failing_since end,
    probe_at = case when $4 <> 'active' then probe_at end,
    probe_delay = case when $4 <> 'active' then probe_delay end
where org_id = $1 and id = $2
returning *

-- name: try_endpoint
-- Only one that failed waits for a probe. Its lane follows `changed_at`, and probes if `probe_at` is not later than that.
update subscriptions set changed_at = clock_timestamp(), probe_at = least(probe_at, now())
where org_id = $1 and id = $2 and kind = 'push' and status = 'active' and probe_at is not null

-- name: set_secrets
update subscriptions set changed_at = $3, secrets = $4, signature = $5,
    probe_at = case when probe_at is not null then least(probe_at, $3) end
where org_id = $1 and id = $2
returning *

-- name: end_jobs
update replays set status = 'cancelled', reason = 'subscription deleted', updated_at = $3, finished_at = $3
where org_id = $1 and subscription_id = $2 and status in ('running', 'acting')

-- name: disable_expired
update subscriptions s set status = 'disabled', status_reason = 'expired', status_at = now(), changed_at = now()
where (org_id, id) in (
    select org_id, id from subscriptions
    where kind = 'push' and expires_at <= now() and status in ('active', 'paused') order by expires_at limit $1
    for update skip locked
)
  and s.status in ('active', 'paused')
returning org_id, id

-- name: sweep_deleted
-- Of each deleted subscription, the first row of every table that can refer to it is looked up: an `exists` could be
-- planned as a join that reads whole tables. One to which something refers is looked at again $1 later.
with old as materialized (
    select org_id, id from subscriptions
    where deleted_at is not null and coalesce(referred_to_at, deleted_at) < now() - $1::interval
    order by coalesce(referred_to_at, deleted_at) limit $2
    for update skip locked
), found as materialized (
    select o.org_id, o.id,
        (select event_id from deliveries d where d.org_id = o.org_id and d.subscription_id = o.id
            order by event_id limit 1) is not null
        or (select event_id from settled_deliveries d where d.org_id = o.org_id and d.subscription_id = o.id
            order by event_id limit 1) is not null
        or (select d.id from attempts d where d.org_id = o.org_id and d.subscription_id = o.id
            order by d.id limit 1) is not null
        or (select lease_id from finished_leases d where d.org_id = o.org_id and d.subscription_id = o.id
            order by lease_id limit 1) is not null
        or (select d.id from replays d where d.org_id = o.org_id and d.subscription_id = o.id
            order by d.id limit 1) is not null
        or (select began_at from statistics_minutes d where d.org_id = o.org_id and d.subscription_id = o.id
            order by began_at limit 1) is not null
        or (select began_at from statistics_hours d where d.org_id = o.org_id and d.subscription_id = o.id
            order by began_at limit 1) is not null
        as is_referred_to
    from old o
), swept as (
    delete from subscriptions s using found f
    where s.org_id = f.org_id and s.id = f.id and not f.is_referred_to
), kept as (
    update subscriptions s set referred_to_at = now() from found f
    where s.org_id = f.org_id and s.id = f.id and f.is_referred_to
)
select count(*) as looked_at, count(*) filter (where not is_referred_to) as swept from found
