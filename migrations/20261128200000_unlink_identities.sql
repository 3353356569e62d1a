-- People see by whom they sign in, and end it. An identity has an id for that.
alter table identities add column id uuid not null default gen_random_uuid(), add constraint identities_id_key unique (id);
grant delete on identities to millwork_identity;

create function audit_unlinked_identity() returns trigger language plpgsql as $$
declare
    tenant uuid;
begin
    for tenant in select tenant_id from memberships where user_id = old.user_id order by tenant_id loop
        perform audit_record(tenant, 'identity.unlinked', 'user', old.user_id::text,
                             jsonb_build_object('provider', old.provider, 'issuer', old.issuer, 'email', old.email), null, old.user_id);
    end loop;
    return null;
end $$;
create trigger audit_unlinked after delete on identities for each row execute function audit_unlinked_identity();
