-- Every object in storage has a row, of files, exports and reports alike (decision 42). The row is committed before the
-- object is written and outlives it: what crashed in between is found by comparing the two.
create table objects (
    tenant_id      uuid not null references tenants (id),
    id             uuid not null,
    purpose        text not null,
    state          text not null default 'pending',
    reserved_bytes bigint not null default 0, -- of the quota, while pending
    size_bytes     bigint,
    sha256         bytea,
    created_at     timestamptz not null default ledger_now(),
    touched_at     timestamptz not null default ledger_now(), -- renewed by who writes it: it is not forgotten
    delete_after   timestamptz,
    primary key (tenant_id, id),
    constraint objects_purpose_check check (purpose in ('file', 'export', 'report')),
    constraint objects_state_check check (state in ('pending', 'stored', 'deleted')),
    constraint objects_stored_check check (state <> 'stored' or (size_bytes is not null and sha256 is not null)),
    constraint objects_deleted_check check ((state = 'deleted') = (delete_after is not null))
);
create index objects_pending on objects (touched_at) where state = 'pending';
create index objects_deleted on objects (delete_after) where state = 'deleted';
call isolate_tenant('objects');
grant select, insert, update on objects to millwork_tenant;
grant select, update, delete on objects to millwork_system;

-- Bytes of a tenant's files, kept by a trigger, so that they are what `objects` says at every commit.
create table storage_usage (
    tenant_id uuid primary key references tenants (id),
    bytes     bigint not null default 0,
    noticed   smallint not null default 0, -- per cent of the quota that its owners were told of
    constraint storage_usage_bytes_check check (bytes >= 0)
) with (fillfactor = 50);
call isolate_tenant('storage_usage');
create policy staff on storage_usage to millwork_staff using (true);
grant select, insert, update on storage_usage to millwork_tenant;
grant select, insert, update on storage_usage to millwork_system;
grant select on storage_usage to millwork_staff;

-- What an object takes of its tenant's quota. Exports and reports take nothing: whoever has no room left must be able to
-- take out what they have.
create function quota_bytes(o objects) returns bigint language sql immutable
    return case when o.purpose <> 'file' then 0
                when o.state = 'pending' then o.reserved_bytes
                when o.state = 'stored' then o.size_bytes
                else 0 end;

-- A row that is proposed must satisfy the check before it may meet the one that is there: what is given back is taken from
-- that one directly.
create function count_storage() returns trigger language plpgsql as $$
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
create trigger count_storage after insert or update or delete on objects for each row execute function count_storage();

-- Holds a tenant's storage until the end of the transaction and says whether `wanted` more bytes fit in its quota. `told`
-- is a share of the quota, in per cent, that they reach just now. Of two that ask for the last bytes, one gets them.
create function hold_storage(wanted bigint, quota bigint, out granted boolean, out used bigint, out told smallint)
    language plpgsql as $$
declare
    noticed_before smallint;
begin
    insert into storage_usage (tenant_id) values (current_tenant()) on conflict do nothing;
    select u.bytes, u.noticed into strict used, noticed_before from storage_usage u
     where u.tenant_id = current_tenant() for update;
    granted := used + wanted <= quota;
    told := case when not granted or used + wanted >= quota then 100
                 when (used + wanted)::numeric * 10 >= quota::numeric * 8 then 80
                 else 0 end;
    -- Once there is room again, the next time is told again.
    update storage_usage u set noticed = told where u.tenant_id = current_tenant() and u.noticed <> told;
    told := case when told > noticed_before then told else 0 end;
end $$;
