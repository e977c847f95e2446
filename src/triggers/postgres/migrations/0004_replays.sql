-- What is told of a replay before it runs, and its pace.

alter table replays
    add column plan_exact boolean not null default true; -- whether `planned` was counted, not estimated
comment on column replays.not_before is 'The next chunk begins no earlier: what keeps the rate.';
