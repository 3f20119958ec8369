-- A version is one fill of a read model's tables. Several may be of the same fold, which is what the program does to make
-- the rows.
alter table projection.schemas
    add column fold integer,
    add column made_at timestamptz not null default now(),
    -- Since when it is served, or first was; null as long as it is being filled.
    add column served_at timestamptz;
update projection.schemas set fold = version;
alter table projection.schemas alter column fold set not null;
update projection.schemas s set served_at = now()
from projection.versions v where v.read_model = s.read_model and v.active_version = s.version;

-- Whether consumers may take the partition. It stands here, and not with the versions, so that it is read under the same
-- lock as the epoch: nobody takes a version that has been switched away from a moment ago.
alter table projection.checkpoints add column served boolean not null default true;
