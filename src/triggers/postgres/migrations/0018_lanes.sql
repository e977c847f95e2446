-- How many lanes a worker has in memory, for operators. The worker writes it with its heartbeat.

alter table workers
    add column lanes integer; -- null for a worker of an older version
