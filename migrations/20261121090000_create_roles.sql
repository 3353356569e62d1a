-- The three doors to the data, the ledger's clock, and the helpers that later migrations use.
-- The roles belong to the whole PostgreSQL cluster, so another database may have made them already.
do $$
declare door text;
begin
    foreach door in array array ['millwork_tenant', 'millwork_identity', 'millwork_system'] loop
        begin
            execute format('create role %I nologin', door);
        exception when duplicate_object or unique_violation then null;
        end;
        -- 'usage', not 'member': from PostgreSQL 16 on, who creates a role is a member that may not set it.
        if not pg_has_role(current_user, door, 'usage') then
            execute format('grant %I to current_user', door);
        end if;
        execute format('grant usage on schema public to %I', door);
    end loop;
end $$;

-- Leases, due times and expiry are all measured with this one clock. Tests replace it to move the time.
create function ledger_now() returns timestamptz language sql stable return now();

-- Null when unset: a transaction without a tenant sees no rows.
create function current_tenant() returns uuid language sql stable
    return nullif(current_setting('app.tenant_id', true), '')::uuid;

-- The smallest UUIDv7 (RFC 9562) of a moment: ids at or after it were made then or later. None is older than the epoch.
create function uuid_floor(at timestamptz) returns uuid language sql immutable strict
    return (lpad(to_hex(greatest((extract(epoch from at) * 1000)::bigint, 0)), 12, '0') || repeat('0', 20))::uuid;

-- Row security of a tenant's table: its tenant's rows for the tenant's door, all rows for the system's.
create procedure isolate_tenant(tbl regclass) language plpgsql as $$
begin
    execute format('alter table %s enable row level security', tbl);
    execute format('alter table %s force row level security', tbl); -- the owner too
    execute format('create policy tenant on %s to millwork_tenant using (tenant_id = current_tenant())', tbl);
    execute format('create policy system on %s to millwork_system using (true)', tbl);
end $$;
