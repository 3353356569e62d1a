-- All rows satisfy the predicate, and only statements that say so may use this index: those that read a lane in its order.
-- A look-up by (tenant_id, id) does not say it and is left with the primary key, whatever the statistics are (decision 13).
-- They know of no row after a VACUUM of an empty queue whose dead rows an old transaction keeps, and then every index
-- looks equally cheap: look-ups by `id` alone walked through this one from end to end.
drop index job_live_lane;
create index job_live_lane on job_live (queue, tenant_id, priority, run_at, id) where priority >= 0;
