-- What a tenant wants to be told of by mail or event: jobs that fail, queues that fall behind (decision 0020).
create table alerts (
    tenant_id     uuid not null references tenants (id),
    id            uuid not null, -- created at: the id's own time
    cause         text not null, -- what it is about; also the type of its events
    kind          text, -- jobs of this kind alone
    queue         text, -- jobs of this queue alone
    depth         integer, -- due jobs from which a queue is behind
    age_s         integer, -- and how long the oldest of them has been due
    email         text,
    event         boolean not null,
    disabled_at   timestamptz,
    updated_at    timestamptz not null default ledger_now(),
    version       integer not null default 1,
    -- What was told, so that many causes do not become many mails.
    mailed_at     timestamptz,
    unmailed      integer not null default 0, -- failures since
    last_failure  text, -- JSON: the last of those
    events_since  timestamptz, -- when the minute began in which `events` were published
    events        integer not null default 0,
    suppressed    integer not null default 0, -- failures of which no event told
    behind_since  timestamptz, -- when its queue fell behind; null once it has caught up
    checked_at    timestamptz,
    primary key (tenant_id, id),
    constraint alerts_cause_check check (cause in ('job.failed', 'queue.backlogged'))
) with (fillfactor = 50);
create index alerts_of_failures on alerts (tenant_id) where cause = 'job.failed' and disabled_at is null;
create index alerts_unmailed on alerts (mailed_at) where unmailed > 0 and disabled_at is null;
create index alerts_of_queues on alerts (checked_at nulls first) where cause = 'queue.backlogged' and disabled_at is null;
call isolate_tenant('alerts');
grant select, insert, update, delete on alerts to millwork_tenant;
grant select, update on alerts to millwork_system;
