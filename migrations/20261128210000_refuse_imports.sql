-- Why an import's file was refused as a whole, after what could be read of it: JSON, as an attempt's error. Such an import has a
-- report too, and has failed.
alter table imports add column refused text;
drop trigger audit on imports;
call audit_table('imports', 'import', 'id', '{}',
                 '{run,position,created,unchanged,failed,object_id,finished_at,expires_at,refused}');
