-- name: accept_all
-- The promise of the 201 in one statement, so in one transaction: the dedup row, the event, and a
-- delivery for every subscription that matches.
--
-- There are two such statements because nearly every batch is one that this cheap one can store: all of
-- its events are new, and their deliveries fit into one transaction. It stores all of the batch or nothing.
-- If anything of the batch is stored already, a unique index refuses it; if it does not fit, `fits` is
-- false. Then `accept_some` stores what it can. That statement stores whatever comes, but takes half as
-- much again of PostgreSQL's time. A change of what is stored goes into both.
--
-- $13 has what judging found: under the two ids of an event and a subscription in one text, false if the
-- event is not wanted, or its ordering key. It is one object because that is searched without a join,
-- which a generic plan could turn into a loop.
with sent as (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
        $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $14::bytea[]
    ) as b (
        org_id, id, type, payload, dedup_id,
        source, subject, ordering_key, occurred_at, judging_version, attributes
    )
), recipients as materialized (
    -- Each organisation's subscriptions are read once for all of its events.
    select s.org_id, s.id, s.kind, s.lane_group, s.ordering, s.ordering_pointer, s.filter,
        s.all_types, s.type_names, s.type_prefixes
    from subscriptions s
    where s.org_id in (select distinct org_id from sent)
      and s.status in ('active', 'paused') and (s.expires_at is null or s.expires_at > now())
), fit as materialized (
    -- A batch fits if its organisations have so few names and prefixes that each event can be compared with
    -- all of them; they cannot make too many deliveries either. And every event must have been judged, which
    -- is done before this statement, by the subscriptions that this statement sees: each change of them raises
    -- the version.
    select coalesce(sum(b.events * r.comparisons), 0) <= $12
        and bool_and(coalesce(o.judging_version = b.judging_version, false)) as fits
    from (
        select org_id, coalesce(judging_version, 0) as judging_version, count(*) as events
        from sent group by 1, 2
    ) b
    left join organisations o on o.id = b.org_id
    left join (
        select org_id, sum(1 + cardinality(type_names) + cardinality(type_prefixes)) as comparisons
        from recipients group by 1
    ) r on r.org_id = b.org_id
), batch as not materialized (
    select * from sent where (select fits from fit)
), remembered as (
    -- Sorted, so that two batches wait for each other's keys in one order and never in a ring.
    insert into dedup (org_id, dedup_id, event_id, fingerprint, expires_at)
    select org_id, dedup_id, id, sha256(convert_to(type, 'UTF8') || '\x00' || payload), now() + $11::interval
    from batch where dedup_id is not null order by org_id, dedup_id
), stored as (
    insert into events (
        org_id, id, type, payload, dedup_id, source, subject, ordering_key, occurred_at, attributes
    )
    select org_id, id, type, payload, dedup_id, source, subject, ordering_key, occurred_at, attributes
    from batch
    returning org_id, id, type, ordering_key,
        octet_length(payload) + coalesce(octet_length(attributes), 0) as payload_size
), matched as (
    select e.*, s.id as subscription_id, s.kind, s.lane_group, s.ordering, s.ordering_pointer, s.filter
    from stored e join recipients s on s.org_id = e.org_id
    where e.type = any (s.type_names)
      or s.all_types and not starts_with(e.type, 'triggers.')
      or s.type_prefixes <> '{}' and exists (select from unnest(s.type_prefixes) p where starts_with(e.type, p))
), owed as (
    insert into deliveries (
        org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group, ordering_key
    )
    select m.org_id, m.subscription_id, m.id, now(), now(), m.payload_size, m.lane_group,
        case
            when m.ordering <> 'key' or m.kind <> 'push' then null
            -- An event has a key of its own if there is no value at the place that the pointer names.
            when m.ordering_pointer is not null
                then coalesce($13::jsonb ->> (m.id::text || m.subscription_id::text), m.id::text)
            -- Without a key of its own an event belongs to the one key that is the whole subscription.
            else coalesce(m.ordering_key, '')
        end
    from matched m
    where m.filter is null or $13::jsonb -> (m.id::text || m.subscription_id::text) is distinct from 'false'
    returning event_id, subscription_id, lane_group
)
select now() as now, (select fits from fit) as fits,
    array(select uuid_send(event_id) || uuid_send(subscription_id) from owed where lane_group is not null) as owed,
    array(
        -- Looked for only where there are so many subscriptions, because nearly nobody has them.
        select uuid_send(event_id) || int4send(count(*)::integer) from owed
        where exists (select from recipients offset $15)
        group by event_id having count(*) > $15
    ) as broad

-- name: accept_some
-- As `accept_all`, for a batch of which something may be stored already, or which may not fit: stores as
-- much of it as is new and fits, and says what is missing. A dedup_id that has run out is taken over.
-- Repeating it changes nothing: what is stored under its own id already is not stored, and not fanned out,
-- again.
with sent as (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
        $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $14::bytea[]
    ) with ordinality as b (
        org_id, id, type, payload, dedup_id,
        source, subject, ordering_key, occurred_at, judging_version, attributes, place
    )
), recipients as materialized (
    -- Each organisation's subscriptions are read once for all of its events.
    select s.org_id, s.id, s.kind, s.lane_group, s.ordering, s.ordering_pointer, s.filter,
        s.all_types, s.type_names, s.type_prefixes
    from subscriptions s
    where s.org_id in (select distinct org_id from sent)
      and s.status in ('active', 'paused') and (s.expires_at is null or s.expires_at > now())
), named as materialized (
    -- Only names that came, so that an organisation with a hundred thousand costs a look at each. With
    -- `is true` the types are hashed; a plain `in` may become a loop over them.
    select r.org_id, r.id, r.kind, r.lane_group, r.ordering, r.ordering_pointer, r.filter, name
    from recipients r cross join lateral unnest(r.type_names) name
    where (name in (select type from sent)) is true
), broad as materialized (
    select * from recipients where all_types or type_prefixes <> '{}'
), priced as (
    select b.org_id, b.place, (coalesce(n.number, 0) + coalesce(w.number, 0))::integer as price,
        -- Whether it was judged by the subscriptions that this statement sees.
        o.judging_version = coalesce(b.judging_version, 0) as judged
    from sent b
    left join organisations o on o.id = b.org_id
    left join (select org_id, name, count(*) as number from named group by 1, 2) n
        on n.org_id = b.org_id and n.name = b.type
    left join (select org_id, count(*) as number from broad group by 1) w on w.org_id = b.org_id
), shared as (
    -- An organisation that has made few deliveries in this batch so far comes before one that has made
    -- many, so that one whose events go to a thousand subscribers takes no room from the others.
    select place, judged, sum(price) over (order by made, place) as deliveries
    from (select *, sum(price) over (partition by org_id order by place) as made from priced) p
), batch as (
    -- What an event may cost is known before it is stored: a batch ends where it would make too
    -- many deliveries, and what is left of it comes again in the next one. The first is stored in any
    -- case. Payloads are not carried through the sorting; `is true` for the reason given at `named`.
    select * from sent
    where (place in (select place from shared where judged and (deliveries <= $12 or place = 1))) is true
), won as (
    -- Sorted, so that two batches wait for each other's keys in one order and never in a ring.
    insert into dedup as d (org_id, dedup_id, event_id, fingerprint, expires_at)
    select org_id, dedup_id, id, sha256(convert_to(type, 'UTF8') || '\x00' || payload), now() + $11::interval
    from batch where dedup_id is not null order by org_id, dedup_id
    on conflict (org_id, dedup_id) do update
        set event_id = excluded.event_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
        where d.expires_at <= now()
    returning event_id
), stored as (
    insert into events (
        org_id, id, type, payload, dedup_id, source, subject, ordering_key, occurred_at, attributes
    )
    select org_id, id, type, payload, dedup_id, source, subject, ordering_key, occurred_at, attributes
    from batch
    where dedup_id is null or id in (select event_id from won)
    on conflict (org_id, id) do nothing
    returning org_id, id, type, ordering_key,
        octet_length(payload) + coalesce(octet_length(attributes), 0) as payload_size
), matched as (
    -- Names are matched in a join, because an organisation may have thousands of types and as many
    -- subscriptions; subscriptions to all types or to a prefix are compared with each event.
    select e.*, s.id as subscription_id, s.kind, s.lane_group, s.ordering, s.ordering_pointer, s.filter
    from stored e join named s on s.org_id = e.org_id and s.name = e.type
    union all
    select e.*, s.id, s.kind, s.lane_group, s.ordering, s.ordering_pointer, s.filter
    from stored e join broad s on s.org_id = e.org_id
    where e.type <> all (s.type_names)
      and (
        s.all_types and not starts_with(e.type, 'triggers.')
        or s.type_prefixes <> '{}' and exists (select from unnest(s.type_prefixes) p where starts_with(e.type, p))
      )
), owed as (
    insert into deliveries (
        org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group, ordering_key
    )
    select m.org_id, m.subscription_id, m.id, now(), now(), m.payload_size, m.lane_group,
        case
            when m.ordering <> 'key' or m.kind <> 'push' then null
            -- An event has a key of its own if there is no value at the place that the pointer names.
            when m.ordering_pointer is not null
                then coalesce($13::jsonb ->> (m.id::text || m.subscription_id::text), m.id::text)
            -- Without a key of its own an event belongs to the one key that is the whole subscription.
            else coalesce(m.ordering_key, '')
        end
    from matched m
    where m.filter is null or $13::jsonb -> (m.id::text || m.subscription_id::text) is distinct from 'false'
    returning event_id, subscription_id, lane_group
)
select now() as now,
    case
        when (select count(*) from stored) = cardinality($2) then '{}'
        else array(select id from sent except select id from stored)
    end as missing,
    array(select uuid_send(event_id) || uuid_send(subscription_id) from owed where lane_group is not null) as owed,
    array(
        -- Looked for only where there are so many subscriptions, because nearly nobody has them.
        select uuid_send(event_id) || int4send(count(*)::integer) from owed
        where exists (select from recipients offset $15)
        group by event_id having count(*) > $15
    ) as broad

-- name: taken
-- Those of these events whose dedup_id names an event already. It is looked up for each event by itself: a
-- plain join may become a walk through the whole table.
select b.id, d.event_id as winner, d.fingerprint,
    exists (select from events e where e.org_id = b.org_id and e.id = b.id) as stored
from unnest($1::uuid[], $2::uuid[], $3::text[]) as b (org_id, id, dedup_id)
cross join lateral (
    select event_id, fingerprint from dedup
    where org_id = b.org_id and dedup_id = b.dedup_id and expires_at > now() limit 1
) d

-- name: resolve
-- Why events were not stored: the winner of each dedup_id, whether the event is stored under its own id from
-- an earlier try, and the version to be judged with. It is a statement of its own, because a statement that
-- lost a race cannot see the winner. A dedup row that has run out has no winner: an event that the bound of
-- deliveries left over has not tried to take it over yet.
select b.id, d.event_id as winner, d.fingerprint, o.judging_version,
    exists (select from events e where e.org_id = b.org_id and e.id = b.id) as stored
from unnest($1::uuid[], $2::uuid[], $3::text[]) as b (org_id, id, dedup_id)
left join organisations o on o.id = b.org_id
left join lateral (
    select event_id, fingerprint from dedup
    where org_id = b.org_id and dedup_id = b.dedup_id and expires_at > now() limit 1
) d on true

-- name: now
select now()

-- name: one
select id, type, dedup_id, source, subject, ordering_key, occurred_at, octet_length(payload) as payload_size,
    attributes
from events where org_id = $1 and id = $2

-- name: payload
select payload from events where org_id = $1 and id = $2

-- name: payloads
-- The bounds let the planner touch only the partitions that hold these ids.
select id, type, payload from events
where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4

-- name: attributes
select id, attributes from events
where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4 and attributes is not null

-- name: payload_sizes
select id, octet_length(payload) as size from events
where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4

-- name: types
select id, type from events where org_id = $1 and id = any ($2::uuid[]) and id >= $3 and id <= $4

-- name: sweep_dedup
delete from dedup where (org_id, dedup_id) in (
    select org_id, dedup_id from dedup where expires_at <= now() order by expires_at limit $1
    for update skip locked
)

-- name: listeners
-- Organisations in which somebody named a type of the service's own events.
select distinct org_id from subscriptions
where org_id = any ($1::uuid[]) and status in ('active', 'paused')
  and (type_names && $2::text[] or type_prefixes && $3::text[])

-- name: deliveries_of_event
-- Through the organisation's subscriptions, because deliveries are kept by subscription.
select s.id as subscription_id, s.kind, s.key, d.generation,
    case when d.status = 'leased' and d.due_at <= now() then 'pending' else d.status end as status,
    d.reason, d.lease_count, d.attempts, d.due_at, null::timestamptz as settled_at, d.note
from subscriptions s join deliveries d
  on d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $2
where s.org_id = $1
union all
select s.id, s.kind, s.key, d.generation, d.status, d.reason, d.lease_count, d.attempts, null, d.settled_at,
    d.note
from subscriptions s join settled_deliveries d
  on d.org_id = s.org_id and d.subscription_id = s.id and d.event_id = $2
where s.org_id = $1
order by subscription_id, generation

-- name: candidates
select id, kind, key, status, event_types, filter, created_at from subscriptions
where org_id = $1 and deleted_at is null order by id
