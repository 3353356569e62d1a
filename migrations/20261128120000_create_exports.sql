-- What tenants take out. Where an export stands is where its job stands; its object is there when `ready_at` is (decision 38).
create table exports (
    tenant_id    uuid not null references tenants (id),
    id           uuid not null,
    resource     text not null,
    format       text not null,
    compress     text,
    filters      jsonb not null default '{}',
    requested_by uuid not null, -- a person or an API key
    notify       uuid,          -- the person who gets a mail when it is ready
    job_id       uuid not null,
    object_id    uuid,          -- the one being written, until it is ready
    exported     bigint not null default 0, -- rows
    size_bytes   bigint,
    ready_at     timestamptz,
    expires_at   timestamptz,
    created_at   timestamptz not null default ledger_now(),
    primary key (tenant_id, id),
    constraint exports_object_key unique (tenant_id, object_id),
    constraint exports_object foreign key (tenant_id, object_id) references objects (tenant_id, id)
        on delete set null (object_id),
    constraint exports_format_check check (format in ('csv', 'json', 'ndjson')),
    constraint exports_compress_check check (compress in ('gzip', 'zip')),
    constraint exports_ready_check check ((ready_at is null) = (expires_at is null))
);
create index exports_expiry on exports (expires_at) where object_id is not null;
create index exports_age on exports (created_at);
call isolate_tenant('exports');
grant select, insert, update on exports to millwork_tenant;
grant select, update, delete on exports to millwork_system;
call audit_table('exports', 'export', 'id', '{}', '{exported,size_bytes,object_id,ready_at,expires_at}');
