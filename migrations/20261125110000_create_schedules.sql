-- Jobs that come again by the clock of a place (decision 0017). `next_run_at` is the one thing that the scheduler looks
-- at: it is worked out when a schedule is made, changed or fired, and null while the schedule is paused.
create table schedules (
    id             uuid primary key,
    tenant_id      uuid not null references tenants (id),
    name           text not null,
    cron           text not null, -- five fields
    timezone       text not null, -- IANA
    misfire        text not null,
    -- The job, as POST /jobs would store it.
    kind           text not null,
    queue          text not null,
    priority       smallint not null,
    payload        text not null, -- JSON as the client sent it
    max_attempts   smallint not null,
    timeout_ms     integer not null,
    unique_key     text,
    unique_hold_ms bigint,
    tags           text[],
    paused_at      timestamptz,
    next_run_at    timestamptz,
    last_run_at    timestamptz, -- when it last made a job by the clock, and which
    last_job_id    uuid,
    created_at     timestamptz not null default ledger_now(),
    updated_at     timestamptz not null default ledger_now(), -- by a person; firing changes neither this nor the version
    version        integer not null default 1,
    constraint schedules_tenant_key unique (tenant_id, id),
    constraint schedules_misfire_check check (misfire in ('skip', 'once'))
);
create index schedules_due on schedules (next_run_at, id) where next_run_at is not null;
call isolate_tenant('schedules');
grant select, insert, update, delete on schedules to millwork_tenant;
grant select, update on schedules to millwork_system;

-- The jobs of one schedule, newest first. Jobs without one are not in it.
create index jobs_schedule on jobs (tenant_id, schedule_id, id) where schedule_id is not null;
