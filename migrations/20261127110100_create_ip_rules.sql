-- Where a tenant's people and programs may come from. Read with every identity, which is remembered for seconds.
create table ip_rules (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    action      text not null,
    network     cidr not null,
    description text not null default '',
    created_at  timestamptz not null default ledger_now(),
    constraint ip_rules_action_check check (action in ('allow', 'deny')),
    constraint ip_rules_network_key unique (tenant_id, network) -- one rule a network: allowed or denied
);
call isolate_tenant('ip_rules');
create policy identity on ip_rules for select to millwork_identity using (true);
grant select, insert, delete on ip_rules to millwork_tenant;
grant select (tenant_id, action, network) on ip_rules to millwork_identity;
call audit_table('ip_rules', 'ip_rule', 'id', '{}', '{}');
