-- In a transaction of its own: it reads every attempt, under a lock that lets others read and write meanwhile.

alter table attempts validate constraint attempts_outcome_check;
