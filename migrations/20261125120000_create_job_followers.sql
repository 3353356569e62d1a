-- Jobs that wait for others (decision 0019). The statement that ends a job which somebody follows also writes the end to
-- `job_ends`; a step of its own tells it to the followers. Of jobs that nobody follows none of these tables has a row.
alter table job_live add column followed boolean not null default false;

-- When a job that waits for others is due, until they have ended. Finite, so that it can be computed with.
create function not_yet() returns timestamptz language sql immutable parallel safe
    return timestamptz '9999-01-01 00:00:00+00';

-- Orders what happens to one job: an end is told to those who followed before it.
create sequence job_follow_seq;
grant usage on sequence job_follow_seq to millwork_tenant, millwork_system;

create table job_followers (
    tenant_id   uuid not null,
    id          uuid not null, -- the job that is followed; it lives, or its end is in job_ends
    follower_id uuid not null, -- the job that waits
    seq         bigint not null default nextval('job_follow_seq'),
    primary key (tenant_id, id, follower_id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
call isolate_tenant('job_followers');
grant select, insert on job_followers to millwork_tenant;
grant select, insert, delete on job_followers to millwork_system;

-- One row a job that waits; goes when the wait is over, whatever ended it.
create table job_waits (
    tenant_id              uuid not null,
    id                     uuid not null,
    pending                integer not null, -- predecessors whose end was not told yet
    on_predecessor_failure text not null,
    primary key (tenant_id, id),
    constraint job_waits_policy_check check (on_predecessor_failure in ('cancel', 'run'))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
call isolate_tenant('job_waits');
grant select, insert on job_waits to millwork_tenant;
grant select, insert, update, delete on job_waits to millwork_system;

-- Ends that are to be told.
create table job_ends (
    seq       bigint primary key default nextval('job_follow_seq'),
    tenant_id uuid not null,
    id        uuid not null,
    state     job_end not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index job_ends_job on job_ends (tenant_id, id);
call isolate_tenant('job_ends');
grant select, insert on job_ends to millwork_tenant;
grant select, insert, update, delete on job_ends to millwork_system; -- update: to lock a row

-- What a job was to run after, as it was asked for. Read to show it; nothing depends on it.
create table job_links (
    tenant_id              uuid not null,
    id                     uuid not null,
    after                  uuid[] not null,
    on_predecessor_failure text not null,
    primary key (tenant_id, id)
) partition by range (id);
create table job_links_default partition of job_links default;
call isolate_tenant('job_links');
grant select, insert on job_links to millwork_tenant, millwork_system;

-- Whatever is partitioned is rolled, so that a new table need not be listed.
create or replace function partitioned_tables() returns text[] language sql stable
    return array (select c.relname::text from pg_class c
                   where c.relkind = 'p' and c.relnamespace = 'public'::regnamespace order by c.relname);
select ensure_partitions(7);
