-- Inboxes can expire, in the column in which push subscriptions do. Their duty looks for them by an index of its own.
-- It also finds those that a node of the previous version has disabled, because that node takes them for push
-- subscriptions.
--
-- It has a migration of its own because it locks `subscriptions` against changes. A worker settles deliveries and then
-- changes their subscription in one transaction, so a migration that held this lock and waited for `deliveries` could
-- end in a deadlock with it.
create index if not exists subscriptions_inboxes_expiring on subscriptions (expires_at)
    where kind = 'inbox' and expires_at is not null and status <> 'deleting';
