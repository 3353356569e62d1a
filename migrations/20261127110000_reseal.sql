-- `millwork-api rekey` seals anew what older keys sealed (decision 0031). It comes through the system's door.
grant select (user_id, sealed_secret), update (sealed_secret) on totp_factors to millwork_system;

-- Another seal around the same secret is no change that a tenant should read of. Only the system's door can say so.
create or replace trigger audit after insert or update or delete on webhooks for each row
    when (current_user <> 'millwork_system' or current_setting('app.resealing', true) is distinct from 'on')
    execute function audit_change('webhook', 'id', '{sealed_secret,sealed_old_secret,sealed_headers}', '{}');
