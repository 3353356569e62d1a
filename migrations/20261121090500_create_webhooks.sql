-- Events, who wants them, and what was sent. Secrets and headers are sealed under MASTER_KEYS.
create table event_types (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    name        text not null,
    description text not null default '',
    schema      text, -- JSON Schema that a payload must fit
    created_at  timestamptz not null default ledger_now(),
    version     integer not null default 1,
    constraint event_types_tenant_name_key unique (tenant_id, name)
);
call isolate_tenant('event_types');
grant select, insert, update, delete on event_types to millwork_tenant;
grant select on event_types to millwork_system;

create table webhooks (
    id                  uuid primary key,
    tenant_id           uuid not null references tenants (id),
    url                 text not null,
    description         text not null default '',
    event_types         text[] not null, -- names or patterns: order.created, order.*, *
    disabled_at         timestamptz,
    disabled_reason     text, -- null when a person did it
    rate_limit_per_s    integer,
    sealed_headers      bytea,
    metadata            text,
    sealed_secret       bytea not null,
    sealed_old_secret   bytea, -- also signs until old_secret_until
    old_secret_until    timestamptz,
    created_at          timestamptz not null default ledger_now(),
    updated_at          timestamptz not null default ledger_now(),
    deleted_at          timestamptz, -- kept for its deliveries' sake
    version             integer not null default 1,
    constraint webhooks_tenant_key unique (tenant_id, id) -- what deliveries point at
);
create index webhooks_open on webhooks (tenant_id, id) where deleted_at is null;
call isolate_tenant('webhooks');
grant select, insert, update on webhooks to millwork_tenant;
grant select, update on webhooks to millwork_system;

create table events (
    tenant_id   uuid not null references tenants (id),
    id          uuid not null, -- also the `webhook-id` of its deliveries
    type        text not null,
    payload     text not null, -- JSON as the client sent it
    created_at  timestamptz not null, -- the id may be the client's, and up to a day off
    request_id  text,
    traceparent text,
    primary key (tenant_id, id)
) partition by range (id);
create table events_default partition of events default;
call isolate_tenant('events');
grant select, insert on events to millwork_tenant, millwork_system;

-- An event on its way to one webhook. Its id is that of the job that carries it, so its attempts are the job's, and its
-- time of creation is the id's own.
-- No foreign key to events or jobs: those leave by partition, which a key pointing at them would forbid.
create table webhook_deliveries (
    tenant_id  uuid not null,
    id         uuid not null,
    webhook_id uuid not null,
    event_id   uuid not null,
    event_type text not null,
    primary key (tenant_id, id),
    constraint webhook_deliveries_webhook foreign key (tenant_id, webhook_id) references webhooks (tenant_id, id)
) partition by range (id);
create table webhook_deliveries_default partition of webhook_deliveries default;
create index webhook_deliveries_webhook on webhook_deliveries (tenant_id, webhook_id, id);
create index webhook_deliveries_event on webhook_deliveries (tenant_id, event_id);
call isolate_tenant('webhook_deliveries');
grant select, insert on webhook_deliveries to millwork_tenant, millwork_system;
