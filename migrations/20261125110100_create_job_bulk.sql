-- How far a job that replays or cancels others has come (decision 0018). Written with what it does to them, so that it
-- goes on from there whatever happens to its worker.
create table job_bulk (
    tenant_id  uuid not null references tenants (id),
    job_id     uuid not null,
    position   uuid not null, -- jobs up to this id are behind it
    until      uuid not null, -- jobs from this id on are not its own
    matched    bigint not null default 0,
    done       bigint not null default 0,
    skipped    bigint not null default 0,
    stepped_at timestamptz, -- when it last did something: its pace
    created_at timestamptz not null default ledger_now(),
    primary key (tenant_id, job_id)
);
call isolate_tenant('job_bulk');
grant select, insert, update on job_bulk to millwork_tenant;
grant select, delete on job_bulk to millwork_system;
