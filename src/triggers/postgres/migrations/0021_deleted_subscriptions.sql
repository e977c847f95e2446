-- The row of a deleted subscription or inbox stays while something refers to it, such as a delivery of the past. A duty
-- looks for those to which nothing refers any more, and deletes them. Rows that a node of an earlier version deletes have
-- no `referred_to_at` either, and are found by `deleted_at`.
alter table subscriptions
    add column referred_to_at timestamptz; -- when something was last found that refers to this deleted one
create index subscriptions_deleted on subscriptions (coalesce(referred_to_at, deleted_at)) where deleted_at is not null;
create index replays_by_subscription on replays (org_id, subscription_id, id);
