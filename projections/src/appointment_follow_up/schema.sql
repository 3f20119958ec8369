-- Which version of an appointment the orders about it come from.
create table appointments (
    appointment uuid primary key,
    patient uuid not null,
    sequence bigint not null
);
create index appointments_of_patient on appointments (patient);
