-- name: register
insert into workers (id, name, started_at, heartbeat_at) values ($1, $2, now(), now())

-- name: beat
-- No row: this worker was declared dead, and that is final.
update workers set heartbeat_at = now(), lanes = $2 where id = $1 and dead_at is null returning now()

-- name: heartbeats
-- Of every living worker, as it stands in the database: whoever looks judges by how long it stands still.
select id, heartbeat_at from workers where dead_at is null

-- name: owned
select id, token, probation_until > now() as probation, suspects_until from lane_groups where worker_id = $1

-- name: bury
-- Workers that were found silent ($1) are dead, unless one has beaten since the heartbeat that was seen ($2).
-- Their groups are free. A worker begins nothing later than $3 after its last heartbeat, so what came due
-- after that is under no suspicion. A group whose owners die twice within a minute is on probation for one,
-- if the deaths count ($4). What the dead one still holds in a transaction that nobody has ended yet is left
-- for the next time: no living worker waits for it.
with dead as (
    update workers w set dead_at = now()
    where w.id in (
        select l.id from workers l
        join unnest($1::uuid[], $2::timestamptz[]) as s (id, heartbeat_at)
            on l.id = s.id and l.heartbeat_at = s.heartbeat_at
        where l.dead_at is null
        for update of l skip locked
    )
    returning w.id
), orphaned as (
    select g.id, w.heartbeat_at from lane_groups g
    join workers w on w.id = g.worker_id
    where w.dead_at is not null or w.id in (select id from dead)
    for update of g skip locked
)
update lane_groups g
set worker_id = null, token = null,
    suspects_until = greatest(g.suspects_until, o.heartbeat_at + $3::interval),
    died_at = case when $4::boolean then now() else g.died_at end,
    probation_until = case
        when $4::boolean and g.died_at > now() - interval '1 minute' then now() + interval '1 minute'
        else g.probation_until
    end
from orphaned o
where g.id = o.id
returning g.id

-- name: take
-- Free groups up to a fair share. The worker's own row is locked, so that it cannot be declared
-- dead in between.
with self as (
    select id from workers where id = $1 and dead_at is null for update
), live as (
    select greatest(1, count(*)) as workers from workers where dead_at is null
), mine as (
    select count(*) as groups from lane_groups where worker_id = $1
), free as (
    select g.id from lane_groups g
    where g.worker_id is null and exists (select from self)
    order by g.id
    limit (select greatest(0, ceil((select count(*) from lane_groups)::numeric / workers)::int - groups) from live, mine)
    for update skip locked
)
update lane_groups g set worker_id = $1, token = $2 from free where g.id = free.id
returning g.id

-- name: surplus
select greatest(0, (select count(*) from lane_groups where worker_id = $1)
    - ceil((select count(*) from lane_groups)::numeric
        / (select greatest(1, count(*)) from workers where dead_at is null))::int)

-- name: release
update lane_groups set worker_id = null, token = null where worker_id = $1 and id = any ($2::smallint[])

-- name: retire
-- With whatever it owns, also what it was given and has not heard of yet: nobody takes that for a death.
with released as (
    update lane_groups set worker_id = null, token = null where worker_id = $1
)
update workers set dead_at = now() where id = $1

-- name: forget_workers
delete from workers w where dead_at < now() - interval '1 day'
  and not exists (select from lane_groups g where g.worker_id = w.id)

-- name: changed
select org_id, id, changed_at from subscriptions
where kind = 'push' and lane_group = any ($1::smallint[]) and changed_at > $2
