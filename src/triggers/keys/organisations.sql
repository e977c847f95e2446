-- name: create
with organisation as (
    insert into organisations (id, name, plan, custom_quota, subscription_count, created_at)
    values ($1, $2, $3, $4, 1, now())
    on conflict (name) do nothing
    returning id, name, plan, custom_quota, created_at
), inbox as (
    insert into subscriptions (org_id, id, kind, key, status_at, created_at, all_types)
    select id, $5, 'inbox', 'default', created_at, created_at, true from organisation
)
select * from organisation

-- name: list
select id, name, plan, custom_quota, created_at from organisations
where id > $1 order by id limit $2

-- name: by_name
select id, name, plan, custom_quota, created_at from organisations where name = $1

-- name: by_id
select id, name, plan, custom_quota, created_at from organisations where id = $1

-- name: existing
select id from organisations where id = any ($1::uuid[])

-- name: set_plan
with changed as (
    update organisations set plan = $2, custom_quota = $3 where id = $1
    returning id, name, plan, custom_quota, created_at
), raised as (
    update versions set version = version + 1 where name = 'keys'
)
select * from changed

-- name: any
select exists (select from organisations)
