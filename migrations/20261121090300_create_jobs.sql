-- The ledger of jobs: an immutable row, a small live row for as long as the job lives, and an insert-only outcome
-- (decision 0003). Tables that grow are partitioned by day on their UUIDv7, see the next migration but two.
create type job_end as enum ('succeeded', 'failed', 'cancelled');

create table jobs (
    tenant_id    uuid not null references tenants (id),
    id           uuid not null,
    kind         text not null,
    queue        text not null,
    priority     smallint not null,
    payload      text not null, -- JSON as the client sent it; never queried inside, so never parsed
    max_attempts smallint not null,
    timeout_ms   integer not null,
    run_at       timestamptz not null, -- as asked for; a retry moves job_live's. Created at: the id's own time
    unique_key   text,
    tags         text[],
    schedule_id  uuid,
    request_id   text,
    traceparent  text, -- W3C Trace Context
    primary key (tenant_id, id)
) partition by range (id);
create table jobs_default partition of jobs default;
call isolate_tenant('jobs');
grant select, insert on jobs to millwork_tenant;
grant select, insert on jobs to millwork_system;

-- One row a job that has not ended. `running` false: scheduled, queued or retrying, told apart by run_at and attempt.
-- A claim changes no indexed column, so that it stays a heap-only update.
create table job_live (
    tenant_id    uuid not null,
    id           uuid not null,
    queue        text not null,
    priority     smallint not null,
    run_at       timestamptz not null,
    later        boolean not null, -- was not due when it was stored: found by job_live_due when its time comes
    running      boolean not null default false,
    attempt      smallint not null default 0,
    lost         smallint not null default 0, -- attempts that ended with their worker
    max_attempts smallint not null,
    lease_owner  uuid, -- the worker that runs it; its lease is the worker's (decision 0004)
    started_at   timestamptz,
    primary key (tenant_id, id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);
create index job_live_lane on job_live (queue, tenant_id, priority, run_at, id);
create index job_live_due on job_live (run_at, id) where later;
call isolate_tenant('job_live');
grant select, insert, update, delete on job_live to millwork_tenant, millwork_system;

create table job_outcomes (
    tenant_id   uuid not null,
    id          uuid not null,
    state       job_end not null,
    attempt     smallint not null,
    worker_id   uuid,
    started_at  timestamptz,
    finished_at timestamptz not null,
    result      text, -- JSON
    error       text, -- JSON {code, message}
    detail      text, -- JSON, what the handler tells of its last attempt
    primary key (tenant_id, id)
) partition by range (id);
create table job_outcomes_default partition of job_outcomes default;
create index job_outcomes_ended_badly on job_outcomes (tenant_id, state, id) where state <> 'succeeded';
call isolate_tenant('job_outcomes');
grant select, insert, delete on job_outcomes to millwork_tenant, millwork_system;

-- Attempts that did not end their job; the last one is the outcome itself.
create table job_attempts (
    tenant_id   uuid not null,
    id          uuid not null, -- the job's
    attempt     smallint not null,
    ended       text not null, -- why it was not the last: retry, lost, snoozed
    worker_id   uuid,
    started_at  timestamptz,
    finished_at timestamptz not null,
    error       text,
    detail      text,
    primary key (tenant_id, id, attempt)
) partition by range (id);
create table job_attempts_default partition of job_attempts default;
call isolate_tenant('job_attempts');
grant select, insert on job_attempts to millwork_tenant, millwork_system;

-- A partitioned table has no unique key across partitions, so uniqueness lives here. A row of a job that has ended and
-- whose time is over is simply overwritten.
create table job_unique (
    tenant_id   uuid not null,
    unique_key  text not null,
    job_id      uuid not null,
    holds_until timestamptz, -- also holds until then when the job ends earlier
    created_at  timestamptz not null default ledger_now(),
    primary key (tenant_id, unique_key)
);
call isolate_tenant('job_unique');
grant select, insert, update, delete on job_unique to millwork_tenant, millwork_system;

-- Wishes to cancel a job that runs; its worker looks here twice a second.
create table job_cancels (
    tenant_id    uuid not null,
    job_id       uuid not null,
    requested_at timestamptz not null default ledger_now(),
    primary key (tenant_id, job_id)
);
call isolate_tenant('job_cancels');
grant select, insert, delete on job_cancels to millwork_tenant, millwork_system;

-- A tenant's queue that is paused everywhere: nothing of it is admitted or claimed.
create table queue_pauses (
    tenant_id uuid not null references tenants (id),
    queue     text not null,
    paused_at timestamptz not null default ledger_now(),
    primary key (tenant_id, queue)
);
call isolate_tenant('queue_pauses');
grant select, insert, delete on queue_pauses to millwork_tenant;
grant select on queue_pauses to millwork_system;

-- Outcomes by tenant, queue and minute, kept by the workers. Histograms count powers of two of milliseconds.
create table job_stats (
    tenant_id uuid not null,
    queue     text not null,
    minute    timestamptz not null,
    succeeded bigint not null default 0,
    failed    bigint not null default 0,
    cancelled bigint not null default 0,
    retried   bigint not null default 0,
    wait_ms   bigint[] not null,
    run_ms    bigint[] not null,
    primary key (tenant_id, minute, queue)
);
create index job_stats_minute on job_stats (minute);
call isolate_tenant('job_stats');
grant select on job_stats to millwork_tenant;
grant select, insert, update, delete on job_stats to millwork_system;
