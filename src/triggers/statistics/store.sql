-- name: write
-- Writes absolute values under the id of the process that counted them, so a repetition changes nothing.
insert into statistics_minutes (
    org_id, subscription_id, began_at, process_id, accepted, duplicate, delivered, failed, dead, lag
)
select b.org_id, b.subscription_id, to_timestamp(b.minute * 60), $1,
    b.accepted, b.duplicate, b.delivered, b.failed, b.dead, b.lag::integer[]
from unnest(
    $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::text[]
) as b (org_id, subscription_id, minute, accepted, duplicate, delivered, failed, dead, lag)
on conflict (org_id, subscription_id, began_at, process_id) do update
set accepted = excluded.accepted, duplicate = excluded.duplicate, delivered = excluded.delivered,
    failed = excluded.failed, dead = excluded.dead, lag = excluded.lag

-- name: has_subscription
select exists (select from subscriptions where org_id = $1 and id = $2 and kind = 'push')

-- name: subscription_ids
-- A page of the push subscriptions, in the order in which they are listed.
select id from subscriptions
where org_id = $1 and kind = 'push' and notifies_inbox is null and status <> 'deleting' and id > $2
order by id limit $3

-- name: subscription_hours
-- The numbers of some subscriptions by hour: rows of hours up to $4, and rows of minutes from there on.
select subscription_id, at, sum(delivered)::bigint as delivered, sum(failed)::bigint as failed,
    sum(dead)::bigint as dead
from (
    select subscription_id, began_at as at, delivered, failed, dead from statistics_hours
    where org_id = $1 and subscription_id = any($2) and began_at >= $3 and began_at < $4
    union all
    select subscription_id, date_bin('1 hour', began_at, 'epoch'::timestamptz), delivered, failed, dead
    from statistics_minutes
    where org_id = $1 and subscription_id = any($2) and began_at >= greatest($3, $4)
) counted
group by subscription_id, at

-- name: now
select now() as now, (select done_until from statistics_progress where name = 'hours') as hours_until

-- name: minutes
-- Sums the rows of an organisation or a subscription over all processes, in steps of $4 from $3 on.
select date_bin($4::interval, began_at, 'epoch'::timestamptz) as at,
    sum(accepted)::bigint as accepted, sum(duplicate)::bigint as duplicate, sum(delivered)::bigint as delivered,
    sum(failed)::bigint as failed, sum(dead)::bigint as dead, max(backlog) as backlog,
    array[
        sum(lag[1]), sum(lag[2]), sum(lag[3]), sum(lag[4]), sum(lag[5]), sum(lag[6]), sum(lag[7]), sum(lag[8]),
        sum(lag[9]), sum(lag[10]), sum(lag[11]), sum(lag[12]), sum(lag[13]), sum(lag[14]), sum(lag[15]), sum(lag[16])
    ]::bigint[] as lag
from statistics_minutes
where org_id = $1 and subscription_id = $2 and began_at >= $3
group by 1

-- name: hours
select began_at as at, accepted, duplicate, delivered, failed, dead, backlog, lag
from statistics_hours
where org_id = $1 and subscription_id = $2 and began_at >= $3 and began_at < $4

-- name: sampled_minutes
-- The steps in which the backlogs of all organisations were sampled. These rows belong to no organisation.
select distinct date_bin($2::interval, began_at, 'epoch'::timestamptz) as at
from statistics_minutes
where org_id = $1 and subscription_id = $1 and began_at >= $3

-- name: known_minutes
-- The minutes of an organisation or a subscription for which there are numbers, or in which backlogs were sampled.
select distinct began_at as at from statistics_minutes
where (org_id, subscription_id) in (($1, $2), ($3, $3)) and began_at >= $4

-- name: sampled_hours
select began_at as at from statistics_hours
where org_id = $1 and subscription_id = $1 and began_at >= $2 and began_at < $3

-- name: worst
-- Sums rows of hours up to $4, and rows of minutes from there on, including the current hour.
select subscription_id, sum(delivered)::bigint as delivered, sum(failed)::bigint as failed, sum(dead)::bigint as dead
from (
    select subscription_id, delivered, failed, dead from statistics_hours
    where org_id = $1 and subscription_id <> $2 and began_at >= $3 and began_at < $4
    union all
    select subscription_id, delivered, failed, dead from statistics_minutes
    where org_id = $1 and subscription_id <> $2 and began_at >= greatest($3, $4)
) counted
group by subscription_id
having sum(failed) + sum(dead) > 0
order by sum(failed) + sum(dead) desc, subscription_id
limit $5

-- name: use
-- The use of the organisations after $1. Accepted events are summed over rows of hours up to $4, and over rows of minutes
-- from there on. The backlog is that of the last sample, which stores no row for an organisation without a backlog.
with sample as (
    select max(began_at) as at from statistics_minutes
    where org_id = $5 and subscription_id = $5 and began_at > now() - interval '10 minutes'
)
select o.id, o.subscription_count as subscriptions, o.max_subscriptions,
    coalesce((
        select sum(accepted) from statistics_hours h
        where h.org_id = o.id and h.subscription_id = $5 and h.began_at >= $3 and h.began_at < $4
    ), 0)::bigint + coalesce((
        select sum(accepted) from statistics_minutes m
        where m.org_id = o.id and m.subscription_id = $5 and m.began_at >= greatest($3, $4)
    ), 0)::bigint as accepted,
    case when sample.at is not null then coalesce((
        select m.backlog from statistics_minutes m
        where m.org_id = o.id and m.subscription_id = $5 and m.began_at = sample.at and m.process_id = $5
    ), 0) end as backlog
from (select * from organisations where id > $1 order by id limit $2) o cross join sample
order by o.id

-- name: begin_hours
insert into statistics_progress (name, done_until)
select 'hours', date_bin('1 hour', coalesce((select min(began_at) from statistics_minutes), now()), 'epoch'::timestamptz)
on conflict (name) do nothing

-- name: next_hour
-- The next hour, if it ended at least $1 ago. If another node has locked the row, it makes this hour.
select done_until from statistics_progress
where name = 'hours' and done_until + interval '1 hour' + $1::interval <= now()
for update skip locked

-- name: make_hour
insert into statistics_hours (
    org_id, subscription_id, began_at, accepted, duplicate, delivered, failed, dead, lag, backlog
)
select org_id, subscription_id, $1, sum(accepted), sum(duplicate), sum(delivered), sum(failed), sum(dead),
    case when count(lag) > 0 then array[
        coalesce(sum(lag[1]), 0), coalesce(sum(lag[2]), 0), coalesce(sum(lag[3]), 0), coalesce(sum(lag[4]), 0),
        coalesce(sum(lag[5]), 0), coalesce(sum(lag[6]), 0), coalesce(sum(lag[7]), 0), coalesce(sum(lag[8]), 0),
        coalesce(sum(lag[9]), 0), coalesce(sum(lag[10]), 0), coalesce(sum(lag[11]), 0), coalesce(sum(lag[12]), 0),
        coalesce(sum(lag[13]), 0), coalesce(sum(lag[14]), 0), coalesce(sum(lag[15]), 0), coalesce(sum(lag[16]), 0)
    ] end,
    max(backlog)
from statistics_minutes
where began_at >= $1 and began_at < $1 + interval '1 hour'
group by org_id, subscription_id
on conflict (org_id, subscription_id, began_at) do nothing

-- name: end_hour
update statistics_progress set done_until = done_until + interval '1 hour' where name = 'hours'

-- name: claim_minute
-- The current minute, for the one node that asks for it first.
insert into statistics_progress (name, done_until)
values ('backlog', date_bin('1 minute', now(), 'epoch'::timestamptz))
on conflict (name) do update set done_until = excluded.done_until
where statistics_progress.done_until < excluded.done_until
returning done_until

-- name: sample_backlogs
-- The next $3 organisations after $1 that have unsettled deliveries. Each takes one look into an index to find. At most
-- $4 of its deliveries are counted, in the order of an index.
with recursive having_some as (
    (select org_id from deliveries where org_id > $1 order by org_id limit 1)
    union all
    select (select d.org_id from deliveries d where d.org_id > h.org_id order by d.org_id limit 1)
    from having_some h where h.org_id is not null
), chosen as materialized (
    select org_id from having_some where org_id is not null limit $3
)
insert into statistics_minutes (org_id, subscription_id, began_at, process_id, backlog)
select c.org_id, $5, $2, $5, (
    select count(*) from (
        select from deliveries d where d.org_id = c.org_id order by d.org_id, d.subscription_id limit $4
    ) counted
)
from chosen c
on conflict (org_id, subscription_id, began_at, process_id) do update set backlog = excluded.backlog
returning org_id

-- name: end_sample
insert into statistics_minutes (org_id, subscription_id, began_at, process_id, backlog) values ($1, $1, $2, $1, 0)
on conflict do nothing

-- name: kept_from
-- Minutes are kept until the rows of their hour are made.
select least(now() - $1::interval, (select done_until from statistics_progress where name = 'hours')) as minutes,
    now() - $2::interval as hours
