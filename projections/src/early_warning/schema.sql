-- What is at the bedside of each patient in hospital: stays with the risk last ordered, and the latest readings. Opaque ids,
-- codes, numbers and clinical times; one row for each patient, changed by the events of that patient in their order.
create table bedsides (
    patient uuid primary key,
    -- The last event that changed it.
    position bigint not null,
    state jsonb not null
);
