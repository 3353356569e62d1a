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

-- A row that is proposed must satisfy the check before it may meet the one that is there: what is given back is taken from
-- that one directly.
create or replace function count_storage() returns trigger language plpgsql as $$
declare
    owner  uuid   := coalesce(new.tenant_id, old.tenant_id);
    change bigint := coalesce(quota_bytes(new), 0) - coalesce(quota_bytes(old), 0);
begin
    if change = 0 then
        return null;
    end if;
    update storage_usage u set bytes = u.bytes + change where u.tenant_id = owner;
    if not found then
        insert into storage_usage as u (tenant_id, bytes) values (owner, change)
            on conflict (tenant_id) do update set bytes = u.bytes + excluded.bytes;
    end if;
    return null;
end $$;
