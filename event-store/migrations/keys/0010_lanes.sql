-- The read door records each access before it answers, and seals the records with keys of the access log's own lanes. The
-- first record of a month makes them. It can't change a key, and an erased subject's row keeps it from getting another.
grant insert on subject_keys to nexus_query;
