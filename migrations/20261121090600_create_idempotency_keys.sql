-- First answers by Idempotency-Key, kept for a day. Written in the transaction of the work they answer.
-- Not partitioned: the key must be unique across the whole day, and a day's rows leave in small deletes (decision 0006).
create table idempotency_keys (
    tenant_id  uuid not null references tenants (id),
    route      text not null,
    key        text not null,
    body_hash  bytea not null,
    status     smallint not null,
    headers    text not null, -- JSON object of the headers that are replayed
    sealed_body bytea not null,
    created_at timestamptz not null default ledger_now(),
    primary key (tenant_id, route, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);
call isolate_tenant('idempotency_keys');
grant select, insert, update, delete on idempotency_keys to millwork_tenant;
grant select, insert, update, delete on idempotency_keys to millwork_system;
