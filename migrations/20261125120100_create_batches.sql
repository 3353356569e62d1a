-- Jobs that were submitted together and are counted together. A batch follows its jobs as a waiting job does (decision
-- 0019); when all of them have ended, its `on_complete` job runs.
create table batches (
    tenant_id      uuid not null references tenants (id),
    id             uuid not null, -- created at: the id's own time
    name           text,
    on_complete_id uuid, -- the job that runs when all have ended; it is none of them
    total          integer not null,
    succeeded      integer not null default 0,
    failed         integer not null default 0,
    cancelled      integer not null default 0,
    finished_at    timestamptz,
    primary key (tenant_id, id)
) with (fillfactor = 70);
create index batches_finished on batches (finished_at) where finished_at is not null; -- for their retention
call isolate_tenant('batches');
grant select, insert on batches to millwork_tenant;
grant select, update, delete on batches to millwork_system;

alter table job_followers add column is_batch boolean not null default false; -- then follower_id is a batch's

alter table job_links
    alter column after drop not null,
    alter column on_predecessor_failure drop not null,
    add column batch_id uuid;
create index job_links_batch on job_links (tenant_id, batch_id, id) where batch_id is not null;
grant update (after, on_predecessor_failure) on job_links to millwork_tenant;

-- The figures of a batch are written into the payload of its `on_complete` job, before that is due.
grant update (payload) on jobs to millwork_system;
