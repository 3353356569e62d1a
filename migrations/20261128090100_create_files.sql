-- What people and programs have stored. A file is a name over versions of its content; each has an object of its own.
create table files (
    tenant_id     uuid not null references tenants (id),
    id            uuid not null,
    name          text not null, -- as the client gave it; never part of a path
    current       integer, -- the newest version that is ready; null until one is
    keep_versions integer not null default 10,
    created_by    uuid not null, -- a person or an API key; the file outlives them
    expires_at    timestamptz,
    deleted_at    timestamptz,
    version       integer not null default 1, -- for If-Match
    created_at    timestamptz not null default ledger_now(),
    updated_at    timestamptz not null default ledger_now(),
    primary key (tenant_id, id),
    constraint files_name_check check (char_length(name) between 1 and 255),
    constraint files_keep_check check (keep_versions between 1 and 100)
);
create index files_expiry on files (expires_at) where expires_at is not null and deleted_at is null;
create index files_deleted on files (deleted_at) where deleted_at is not null;
call isolate_tenant('files');
grant select, insert, update on files to millwork_tenant;
grant select, update, delete on files to millwork_system;

create table file_versions (
    tenant_id     uuid not null references tenants (id),
    file_id       uuid not null,
    number        integer not null,
    object_id     uuid not null,
    state         text not null default 'ready',
    media_type    text not null, -- as claimed, and found in the content once ready
    claimed_bytes bigint, -- of a direct upload
    claimed_sha256 bytea,
    refused       text, -- why
    created_by    uuid not null,
    created_at    timestamptz not null default ledger_now(),
    primary key (tenant_id, file_id, number),
    constraint file_versions_object_key unique (tenant_id, object_id),
    constraint file_versions_file foreign key (tenant_id, file_id) references files (tenant_id, id) on delete cascade,
    -- A version goes with its object.
    constraint file_versions_object foreign key (tenant_id, object_id) references objects (tenant_id, id) on delete cascade,
    -- Uploading straight to storage, being looked at, ready; refused for what was found in it.
    constraint file_versions_state_check check (state in ('uploading', 'verifying', 'ready', 'refused'))
);
call isolate_tenant('file_versions');
grant select, insert, update on file_versions to millwork_tenant;
grant select, update, delete on file_versions to millwork_system;
call audit_table('files', 'file', 'id', '{}', '{current}');
call audit_table('file_versions', 'file_version', 'file_id', '{}', '{state}');

alter table tenant_quotas
    add column storage bigint,
    drop constraint tenant_quotas_check,
    add constraint tenant_quotas_check check (least(jobs, events, members, storage) >= 0);
