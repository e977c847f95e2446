-- What the planner believes of deliveries before it has seen any. Without statistics it takes a lane
-- for one row, so that every index which begins with a lane looks as good as the one that finds the
-- row; and there are none until the first analyze, nor after it where the queue was empty just then.
-- So it is shown some lanes, which go again; what it has learned of them stays until it sees real ones.

insert into deliveries (org_id, subscription_id, event_id, due_at, accepted_at, payload_size, lane_group)
select '00000000-0000-0000-0000-000000000000', md5((n % 20)::text)::uuid, md5(n::text)::uuid,
    now() + n * interval '1 second', now(), 200, n % 20
from generate_series(1, 400) n;
analyze deliveries;
delete from deliveries where org_id = '00000000-0000-0000-0000-000000000000';
