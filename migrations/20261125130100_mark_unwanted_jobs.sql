-- A wish to cancel a running job is also marked on its live row. `job_cancels` is what workers look at; but whoever stores
-- an outcome while the wish is being written does not see a new row of another table, and does see a changed row of this.
alter table job_live add column unwanted boolean not null default false; -- its cancellation was asked for while it ran
update job_live l set unwanted = true
 where exists (select from job_cancels c where c.tenant_id = l.tenant_id and c.job_id = l.id);
