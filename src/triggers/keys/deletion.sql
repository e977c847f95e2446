-- name: lock
-- Waits for changes of the organisation and of its subscriptions, which hold this lock, and lets none begin.
select name from organisations where id = $1 for update

-- name: raise_version
-- Nodes forget the keys that they know. Deletions wait for each other here, so that the next statement sees whose keys
-- an earlier one has ended.
update versions set version = version + 1 where name = 'keys'

-- name: operators_elsewhere
-- Whether another organisation has a valid key with the scope `admin`, and whether this one has such a key.
select
    exists (
        select from api_keys k join organisations o on o.id = k.org_id
        where 'admin' = any (k.scopes) and k.org_id <> $1
          and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
    ) as elsewhere,
    exists (
        select from api_keys k
        where 'admin' = any (k.scopes) and k.org_id = $1
          and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
    ) as here

-- name: move
-- One statement: the organisation exists, or it is known that its rows must be deleted. They are deleted after $2, when
-- every accept has ended that could see the organisation.
with gone as (
    delete from organisations where id = $1 returning id, name
)
insert into deleted_organisations (id, name, deleted_at, due_at)
select id, name, clock_timestamp(), clock_timestamp() + $2::interval from gone
returning id, name, deleted_at, emptied_at

-- name: one
select id, name, deleted_at, emptied_at from deleted_organisations where id = $1

-- name: end_subscriptions
-- Lanes follow `changed_at`, and a claim asks for the status. The rows are locked first, so that the time is read when
-- nothing is waited for any more. They count as emptied: their deliveries are deleted, and need not be cancelled before.
update subscriptions s
set status = 'deleting', status_reason = 'organisation deleted', status_at = clock_timestamp(),
    changed_at = clock_timestamp(), emptied_at = clock_timestamp(), deleted_at = clock_timestamp()
where org_id = $1 and id in (
    select id from subscriptions where org_id = $1 and deleted_at is null order by id limit $2 for update
)
returning id

-- name: begun
-- Deleted organisations with subscriptions that are not marked. The status has an index, which holds only these.
select d.id from deleted_organisations d
where d.emptied_at is null
  and exists (select from subscriptions s where s.org_id = d.id and s.status <> 'deleting')
order by d.due_at limit 100

-- name: next
-- Each node deletes rows of another organisation, and of each organisation in its turn.
select id, name, deleted_at, emptied_at, emptying, position, clock_timestamp() as now from deleted_organisations
where due_at <= now() order by due_at limit 1 for update skip locked

-- name: advance
update deleted_organisations set emptying = $2, position = $3, due_at = clock_timestamp() where id = $1

-- name: emptied
-- Nothing was found any more. Rows that come later, such as statistics, are looked for at $2.
update deleted_organisations
set emptied_at = coalesce(emptied_at, now()), due_at = $2, emptying = null, position = null
where id = $1

-- name: forget
delete from deleted_organisations where id = $1

-- name: delete_rows
-- Deletes the next $2 rows of a table in the order of its key, from where the last batch ended ($3). From the beginning,
-- it would read all the rows again that were deleted before and that PostgreSQL has not removed yet. It deletes a range,
-- not a list of keys, because a join with a list could be planned as a walk through all the rows of the organisation.
with chunk as materialized (
    select {key} from {table} where org_id = $1 {after} order by {key} limit $2
), last as materialized (
    select {key} from chunk order by {key_backwards} limit 1
), gone as (
    delete from {table} where org_id = $1 {after} and ({key}) <= (select {key} from last) returning 1
)
select (select count(*) from gone) as gone, (select array[{key_as_texts}] from last) as last
