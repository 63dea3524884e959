-- External stores: where a copy or a link lies outside, what the sweep has deleted there, and where this ledger is at home.

-- A link has its locator where a copy has its ref. `for_good`: to be destroyed without the store's own recovery window.
-- `attempted_at` and `deleted_at` are the sweep's: when it last tried to delete, and when it first succeeded.
alter table copies
  add column locator text collate "C",
  add column field text,
  add column for_good boolean not null default false,
  add column attempted_at timestamptz,
  add column deleted_at timestamptz,
  add check (store <> 'local' or locator is null),
  add check (ref is null or locator is null);
-- Which stores are in use, what lies where, and what a store migration takes next, without a look at the rows.
create index copies_by_store on copies (store, state, id);

-- What was read for a link's lease: the store's own name of the version, and when.
alter table leases add column store_version text, add column read_at timestamptz;

-- Which database the external copies belong to. A ledger that finds itself elsewhere was copied or restored: it deletes
-- nothing external until an operator says that it may.
create table ledger_home (
  singleton boolean primary key default true check (singleton),
  system_identifier text not null,
  database_oid text not null,
  held boolean not null default false,
  settled_at timestamptz not null default now()
);
