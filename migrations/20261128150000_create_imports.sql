-- What tenants bring in from a file (decision 41). Where an import stands is where its job stands; how far it is, is committed with
-- the rows it made.
create table imports (
    tenant_id    uuid not null references tenants (id),
    id           uuid not null,
    file_id      uuid not null, -- the file may go while the import stays to be looked at
    number       integer not null, -- of the version that is read
    resource     text not null,
    format       text not null,
    mode         text not null,
    requested_by uuid not null, -- a person or an API key
    user_id      uuid not null, -- the person in whose name rows are made
    permissions  text[] not null, -- what whoever asked might do
    job_id       uuid not null,
    run          uuid, -- of the job: the one that may go on
    position     bigint not null default 0, -- rows that are done
    created      bigint not null default 0,
    unchanged    bigint not null default 0,
    failed       bigint not null default 0,
    object_id    uuid, -- of the report, which is being written until `finished_at`
    finished_at  timestamptz,
    expires_at   timestamptz, -- of the report
    created_at   timestamptz not null default ledger_now(),
    primary key (tenant_id, id),
    constraint imports_object_key unique (tenant_id, object_id),
    constraint imports_object foreign key (tenant_id, object_id) references objects (tenant_id, id) on delete set null (object_id),
    constraint imports_resource_check check (resource in ('users', 'webhooks', 'event_types')),
    constraint imports_format_check check (format in ('csv', 'ndjson')),
    constraint imports_mode_check check (mode in ('dry_run', 'commit')),
    constraint imports_finished_check check ((finished_at is null) = (expires_at is null))
);
create index imports_expiry on imports (expires_at) where object_id is not null;
create index imports_age on imports (created_at);
call isolate_tenant('imports');
grant select, insert, update on imports to millwork_tenant;
grant select, update, delete on imports to millwork_system;
call audit_table('imports', 'import', 'id', '{}', '{run,position,created,unchanged,failed,object_id,finished_at,expires_at}');

-- What is wrong with rows, until the report is written.
create table import_errors (
    tenant_id uuid not null,
    import_id uuid not null,
    row       bigint not null, -- from 1
    n         integer not null,
    pointer   text not null,
    code      text not null,
    detail    text not null,
    primary key (tenant_id, import_id, row, n),
    constraint import_errors_import foreign key (tenant_id, import_id) references imports (tenant_id, id) on delete cascade
);
call isolate_tenant('import_errors');
grant select, insert, delete on import_errors to millwork_tenant;
