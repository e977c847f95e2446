-- name: count
-- It reads at most as many entries of one index as are asked for, and no row of the table that vacuum has seen
-- since its last change. Entries are in the order of subscriptions, so they are grouped without a sort.
select subscription_id, sum(number) over ()::bigint as counted
from (
    select subscription_id, count(*) as number
    from (
        select subscription_id from deliveries where org_id = $1 order by org_id, subscription_id limit $2
    ) entries
    group by subscription_id
) subscriptions
order by number desc limit 1
