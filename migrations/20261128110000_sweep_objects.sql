-- What the sweep of storage remembers (decision 0037).

-- Since when the object of a stored row was not to be found. The row stays: it is all that is known of the loss.
alter table objects add column missing_at timestamptz;

-- How far a sweep has come, so that it goes on from there whatever happens to its worker.
create table object_sweeps (
    tenant_id  uuid not null references tenants (id),
    job_id     uuid not null,
    state      jsonb not null,
    created_at timestamptz not null default ledger_now(),
    primary key (tenant_id, job_id)
);
call isolate_tenant('object_sweeps');
grant select, insert, update, delete on object_sweeps to millwork_system;

-- What a sweep did to a tenant's objects, until it becomes one audit entry at the end.
create table object_sweep_deeds (
    tenant_id  uuid not null,
    job_id     uuid not null,
    deed       text not null,
    objects    bigint not null,
    created_at timestamptz not null default ledger_now(),
    primary key (job_id, tenant_id, deed)
);
call isolate_tenant('object_sweep_deeds');
grant select, insert, update, delete on object_sweep_deeds to millwork_system;
