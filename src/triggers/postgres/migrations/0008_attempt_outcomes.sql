-- No attempt was ever stored as `cancelled`. The new constraint holds for every row from here on; the rows that
-- are there are checked by the next migration, because that reads all of them and this one locks the table.

alter table attempts
    drop constraint attempts_outcome_check,
    add constraint attempts_outcome_check check (outcome in ('delivered', 'retry', 'dead')) not valid;
