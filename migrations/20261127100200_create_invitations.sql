-- Asking people to join a tenant (decision 0029). A row stays until it has expired, whatever became of it, so that mails
-- to strangers can be counted.
create table invitations (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    email       text not null,
    role        text, -- of those that every tenant has
    invited_by  uuid not null,
    created_at  timestamptz not null default ledger_now(),
    expires_at  timestamptz not null,
    mails       integer not null default 1, -- asked for
    mailed_at   timestamptz not null default ledger_now(), -- asked for last
    accepted_at timestamptz,
    revoked_at  timestamptz,
    constraint invitations_tenant_key unique (tenant_id, id),
    constraint invitations_role_check check (role in ('owner', 'admin', 'developer', 'support', 'viewer')),
    -- Whoever leaves takes their invitations along, unless they were handed over before.
    constraint invitations_inviter foreign key (tenant_id, invited_by) references memberships (tenant_id, user_id)
        on delete cascade
);
create index invitations_inviter on invitations (tenant_id, invited_by);
create index invitations_email on invitations (tenant_id, lower(email));
create index invitations_expiry on invitations (expires_at);
call isolate_tenant('invitations');
create policy identity on invitations to millwork_identity using (true);
grant select, insert, update on invitations to millwork_tenant;
grant select, update on invitations to millwork_identity;
grant select, delete on invitations to millwork_system;
call audit_table('invitations', 'invitation', 'id', '{}', '{mails,mailed_at}');

-- The tenant's own roles that who is invited will have.
create table invitation_roles (
    tenant_id     uuid not null,
    invitation_id uuid not null,
    role_id       uuid not null,
    primary key (tenant_id, invitation_id, role_id),
    constraint invitation_roles_invitation foreign key (tenant_id, invitation_id) references invitations (tenant_id, id)
        on delete cascade,
    constraint invitation_roles_role foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade
);
create index invitation_roles_role on invitation_roles (tenant_id, role_id);
call isolate_tenant('invitation_roles');
create policy identity on invitation_roles for select to millwork_identity using (true);
grant select, insert on invitation_roles to millwork_tenant;
grant select on invitation_roles to millwork_identity;
call audit_table('invitation_roles', 'invitation_role', 'invitation_id', '{}', '{}');

-- Of a token only its hash is stored: the mail's handler makes the token. Each mail has its own, and all are good.
create table invitation_tokens (
    tenant_id     uuid not null,
    invitation_id uuid not null,
    token_hash    bytea not null,
    created_at    timestamptz not null default ledger_now(),
    primary key (tenant_id, invitation_id, token_hash),
    constraint invitation_tokens_hash_key unique (token_hash),
    constraint invitation_tokens_invitation foreign key (tenant_id, invitation_id) references invitations (tenant_id, id)
        on delete cascade
);
call isolate_tenant('invitation_tokens');
create policy identity on invitation_tokens for select to millwork_identity using (true);
grant select on invitation_tokens to millwork_identity;
grant select, insert on invitation_tokens to millwork_system;
