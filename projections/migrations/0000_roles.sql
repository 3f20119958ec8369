-- Roles belong to the whole cluster, so several databases may be creating them at this moment.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['nexus_projector', 'nexus_query'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            begin
                execute format('create role %I login', role_name);
            exception when duplicate_object or unique_violation then
                null;
            end;
        end if;
    end loop;
end
$$;
