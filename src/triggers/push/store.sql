-- name: due_lanes
-- Which lanes have something that came due between two moments. What it costs follows from what
-- came due, never from the backlog or from the number of lanes.
select d.org_id, d.subscription_id, count(*) as rows
from unnest($1::smallint[]) as g (id)
cross join lateral (
    select org_id, subscription_id from deliveries
    where lane_group = g.id and due_at >= $2 and due_at <= now()
) d
group by d.org_id, d.subscription_id

-- name: lanes_with_work
-- Every lane of some groups that has anything due: at a takeover, and now and then in slices. Each is
-- looked up by its index; a join of all lanes with all deliveries could read all of both.
select s.org_id, s.id as subscription_id
from subscriptions s
cross join lateral (
    select from deliveries d
    where d.org_id = s.org_id and d.subscription_id = s.id and d.due_at <= now()
    order by d.due_at limit 1
) d
where s.kind = 'push' and s.lane_group = any ($1::smallint[]) and s.status = 'active'

-- name: endpoints
-- Hints name inboxes too: what is made due may be one's message. They are no lanes.
select s.org_id, s.id, s.lane_group, s.status, s.status_at, s.changed_at, s.target_url, s.format, s.signature,
    s.secrets, s.headers, s.ordering, s.max_concurrency, s.rate_limit, s.retry_delays, s.retry_deadline, s.expires_at,
    s.failing_since, s.probe_at, s.probe_delay, s.notifies_inbox, s.name, s.key
from unnest($1::uuid[], $2::uuid[]) as k (org_id, id)
join subscriptions s on s.org_id = k.org_id and s.id = k.id
where s.kind = 'push' and s.secrets <> ''::bytea -- a tombstone has none, and nothing to send

-- name: read
-- The next due deliveries of many lanes. $3 and $4 are where each lane reads from, $5 how many rows it
-- can use, those it knows already included. `now` is in seconds since 1970, because the driver takes
-- almost a microsecond to read a time from each row.
select l.place, d.*, extract(epoch from now())::float8 as now
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::integer[]) with ordinality
    as l (org_id, subscription_id, due_at, event_id, most, place)
cross join lateral (
    select d.event_id, d.generation, d.attempts, d.first_attempt_at, d.due_at,
        d.accepted_at, d.payload_size, (d.reason is not distinct from 'worker_lost') as lost
    from deliveries d
    where d.org_id = l.org_id and d.subscription_id = l.subscription_id
      and (d.due_at, d.event_id) >= (l.due_at, l.event_id) and d.due_at <= now()
    order by d.due_at, d.event_id limit l.most
) d

-- name: read_heads
-- Of lanes that keep order: the first unsettled delivery of each key, due or not, keys after $3.
-- Behind a first one that waits nothing is read, so a blocked key costs one row.
-- While a subscription is given the past, nothing goes that may have something before it which is not
-- made yet; what has a key of its own has nothing before it.
with backfills as materialized (
    select distinct on (org_id, subscription_id) org_id, subscription_id, position from replays
    where status = 'running' and kind = 'backfill'
    order by org_id, subscription_id, position
)
select l.place, h.*, now() as now, h.due_at <= now() and (
    b.position is null or h.event_id < b.position or h.ordering_key = h.event_id::text
) as due
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[]) with ordinality
    as l (org_id, subscription_id, after, most, place)
left join backfills b using (org_id, subscription_id)
cross join lateral (
    with recursive heads as (
        -- Two branches: with an `or` the index would be read from its first key on, and whatever
        -- waits behind the keys before $3 thrown away.
        (select d.event_id, d.generation, d.attempts, d.first_attempt_at, d.due_at,
            d.accepted_at, d.payload_size, (d.reason is not distinct from 'worker_lost') as lost, d.ordering_key
        from deliveries d
        where l.after is null and d.org_id = l.org_id and d.subscription_id = l.subscription_id
          and d.ordering_key is not null
        order by d.ordering_key, d.accepted_at, d.event_id, d.generation limit 1)
        union all
        (select d.event_id, d.generation, d.attempts, d.first_attempt_at, d.due_at,
            d.accepted_at, d.payload_size, (d.reason is not distinct from 'worker_lost') as lost, d.ordering_key
        from deliveries d
        where d.org_id = l.org_id and d.subscription_id = l.subscription_id and d.ordering_key > l.after
        order by d.ordering_key, d.accepted_at, d.event_id, d.generation limit 1)
        union all
        select n.* from heads h
        cross join lateral (
            select d.event_id, d.generation, d.attempts, d.first_attempt_at, d.due_at,
                d.accepted_at, d.payload_size, (d.reason is not distinct from 'worker_lost') as lost, d.ordering_key
            from deliveries d
            where d.org_id = l.org_id and d.subscription_id = l.subscription_id
              and d.ordering_key > h.ordering_key
            order by d.ordering_key, d.accepted_at, d.event_id, d.generation limit 1
        ) n
    )
    select * from heads limit l.most
) h

-- name: contents
select k.place, e.type, e.payload, e.source, e.subject, e.occurred_at, e.attributes
from unnest($1::uuid[], $2::uuid[]) with ordinality as k (org_id, id, place)
join events e on e.org_id = k.org_id and e.id = k.id
where e.id >= $3 and e.id <= $4

-- name: settle
-- The one place where a push delivery changes its state. The fence: the rows that carry the tokens
-- are locked, so a takeover waits for this or this finds its token gone. State changes only under
-- a living token and from the attempt that was read; the attempt is recorded in any case.
-- Every value is absolute, so repeating this after an unknown outcome changes nothing: it is tried as if
-- nothing of it were there, which costs a fifth less, and fails as a whole if something is. Returns what
-- failed and was changed by it, so that its consequences follow once, and from the owner alone.
-- A delivery that somebody asked to be retried in this very moment is left to be.
with fence as materialized (
    select g.id from lane_groups g
    join unnest($1::smallint[], $2::uuid[]) as t (id, token) on g.id = t.id and g.token = t.token
    order by g.id for share of g
), batch as materialized (
    select * from unnest(
        $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::smallint[], $8::integer[], $9::integer[],
        $10::text[], $11::timestamptz[], $12::integer[], $13::text[], $14::integer[], $15::uuid[],
        $16::text[], $17::float8[]
    ) as b (org_id, subscription_id, event_id, generation, lane_group, read_attempts, attempts,
        outcome, due_at, status_code, response, duration_ms, attempt_id, reason, began_at)
), found as materialized (
    -- Found in the order of the primary key, which no other index has. Asked for by equality alone the
    -- index by due time may seem as good, as long as a lane counts for one row: where there are no
    -- statistics, or the queue was empty when it was last looked at.
    select b.*, d.tid from batch b
    cross join lateral (
        select d.ctid as tid, d.event_id, d.generation, d.attempts from deliveries d
        where d.org_id = b.org_id and d.subscription_id = b.subscription_id
          and (d.event_id, d.generation) >= (b.event_id, b.generation)
        order by d.event_id, d.generation limit 1
    ) d
    where b.lane_group in (select id from fence)
      and d.event_id = b.event_id and d.generation = b.generation and d.attempts = b.read_attempts
), ended as (
    delete from deliveries d using found b
    where b.outcome <> 'retry' and d.ctid = b.tid and d.attempts = b.read_attempts
    returning d.org_id, d.subscription_id, d.event_id, d.generation, b.outcome, b.reason, b.attempts, d.accepted_at,
        coalesce(d.first_attempt_at, to_timestamp(b.began_at)) as first_attempt_at
), settled as (
    insert into settled_deliveries
        (org_id, subscription_id, event_id, generation, status, reason, lease_count, attempts, accepted_at,
        first_attempt_at, settled_at)
    select org_id, subscription_id, event_id, generation, outcome, reason, 0, attempts, accepted_at,
        first_attempt_at, now()
    from ended
    -- if repeated
    on conflict do nothing
    -- end
), retried as (
    update deliveries d
    set attempts = b.attempts, due_at = greatest(b.due_at, now()), reason = b.reason,
        first_attempt_at = coalesce(d.first_attempt_at, to_timestamp(b.began_at))
    from found b where b.outcome = 'retry' and d.ctid = b.tid and d.attempts = b.read_attempts
    returning d.org_id, d.subscription_id, d.event_id, d.generation
), recorded as (
    insert into attempts (org_id, subscription_id, id, event_id, generation, attempt, outcome, reason, status_code,
        response, duration_ms, retry_at, worker_id)
    select org_id, subscription_id, attempt_id, event_id, generation, attempts, outcome,
        coalesce(reason, 'delivered'), status_code, response, duration_ms, case when outcome = 'retry' then due_at end, $18
    from batch where attempt_id is not null
    -- if repeated
    on conflict do nothing
    -- end
)
select org_id, subscription_id, event_id, generation from ended where outcome = 'dead'
union all
select org_id, subscription_id, event_id, generation from retried

-- name: begin_attempts
-- Attempts are counted before they are sent: one that kills its worker is used up. The fence is that of a
-- settle, and the rows are found in the same way, for the same reason.
with batch as materialized (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::integer[], $6::smallint[], $7::uuid[],
        $8::timestamptz[]
    ) with ordinality as b (org_id, subscription_id, event_id, generation, attempts, lane_group, token,
        due_at, place)
), fence as materialized (
    select g.id, g.token from lane_groups g
    where (g.id, g.token) in (select lane_group, token from batch)
    order by g.id for share of g
), found as materialized (
    select b.place, b.attempts, b.due_at, d.tid from batch b
    cross join lateral (
        select d.ctid as tid, d.event_id, d.generation, d.attempts from deliveries d
        where d.org_id = b.org_id and d.subscription_id = b.subscription_id
          and (d.event_id, d.generation) >= (b.event_id, b.generation)
        order by d.event_id, d.generation limit 1
    ) d
    where (b.lane_group, b.token) in (select id, token from fence)
      and d.event_id = b.event_id and d.generation = b.generation and d.attempts = b.attempts
)
update deliveries d
set attempts = b.attempts + 1, due_at = greatest(b.due_at, now()), reason = 'worker_lost',
    first_attempt_at = coalesce(d.first_attempt_at, now())
from found b where d.ctid = b.tid and d.attempts = b.attempts
returning b.place

-- name: disable
-- At the time of this statement, not of its transaction, whose settlements may have waited for locks:
-- workers look for changes that are a few seconds old.
update subscriptions
set status = 'disabled', status_reason = $3, status_at = now(), changed_at = clock_timestamp()
where org_id = $1 and id = $2 and status in ('active', 'paused') and target_url = $4
returning id

-- name: note_health
-- Coarse, and not a change that lanes follow: what the owner knows of an endpoint's health.
update subscriptions s
set last_success_at = greatest(s.last_success_at, h.last_success_at), failing_since = h.failing_since,
    probe_at = h.probe_at, probe_delay = h.probe_delay
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::float8[])
    as h (org_id, id, last_success_at, failing_since, probe_at, probe_delay)
where s.org_id = h.org_id and s.id = h.id

-- name: backlog
-- Sampled, never counted: how many are due in the first of each group's rows, and the oldest of all.
select count(*) as due, min(d.due_at) as oldest, now() as now
from unnest($1::smallint[]) as g (id)
cross join lateral (
    select due_at from deliveries where lane_group = g.id and due_at <= now() order by due_at limit $2
) d
