-- What handlers say while they run: how far they are, and lines of a log. A row only for jobs that say something; it
-- leaves with its job's partition.
create table job_progress (
    tenant_id     uuid not null,
    id            uuid not null, -- the job's
    attempt       smallint not null, -- that said something last
    progress      text, -- JSON, the last one
    progressed_at timestamptz,
    lines         text[] not null, -- JSON {at, attempt, message} each, the newest hundred
    line_count    bigint not null, -- of all that there were
    primary key (tenant_id, id)
) partition by range (id);
create table job_progress_default partition of job_progress default;
call isolate_tenant('job_progress');
grant select on job_progress to millwork_tenant;
grant select, insert, update on job_progress to millwork_system;

create or replace function partitioned_tables() returns text[] language sql immutable
    return array ['jobs', 'job_outcomes', 'job_attempts', 'job_progress', 'events', 'webhook_deliveries'];
select ensure_partitions(7);
