-- name: count
-- The statement reads at most $2 entries of one index. It reads a row of the table only if vacuum has not seen the
-- row since its last change. Entries come in the order of subscriptions, so grouping them needs no sort.
select subscription_id, sum(number) over ()::bigint as counted
from (
    select subscription_id, count(*) as number
    from (
        select subscription_id from deliveries where org_id = $1 order by org_id, subscription_id limit $2
    ) entries
    group by subscription_id
) subscriptions
order by number desc limit 1
