-- The read door records each access before it answers, and seals the records with keys of the access log's own lanes. The
-- first record of a month makes them. It can't change a key, and an erased subject's row keeps it from getting another.
grant insert on subject_keys to nexus_query;
-- Whoever wraps and seals counts both (docs/adr/0009), and replaces a lane's key that has sealed often.
grant update (wraps_reserved) on generations to nexus_query;
grant update (current) on subject_keys to nexus_query;
grant insert, update on key_uses to nexus_query;
