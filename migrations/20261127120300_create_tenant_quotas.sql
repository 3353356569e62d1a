-- What staff allowed one tenant beyond or below its plan. Null: as the plan says.
create table tenant_quotas (
    tenant_id  uuid primary key references tenants (id),
    jobs       bigint,
    events     bigint,
    members    bigint,
    updated_at timestamptz not null default ledger_now(),
    version    integer not null default 1,
    constraint tenant_quotas_check check (least(jobs, events, members) >= 0)
);
call isolate_tenant('tenant_quotas');
create policy identity on tenant_quotas to millwork_identity using (true);
create policy staff on tenant_quotas to millwork_staff using (true);
grant select on tenant_quotas to millwork_tenant, millwork_identity;
grant select, insert, update on tenant_quotas to millwork_staff;
call audit_table('tenant_quotas', 'tenant_quota', 'tenant_id', '{}', '{}');
