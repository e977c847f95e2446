-- Streams show dead letters and quarantined messages as they appear: the newest of an organisation by the time when
-- they died. The index holds only those, which are few, and costs nothing for what was delivered.

create index settled_deliveries_dead on settled_deliveries (org_id, settled_at) where status = 'dead';
