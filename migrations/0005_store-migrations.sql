-- Store migrations: which copies are being moved from one store to another, what has been moved, and what could not be.

-- `heading` is what a running one does: copies are moved over, or back, or their sources are dropped.
create table store_migrations (
  id uuid primary key,
  from_store text collate "C" not null,
  to_store text collate "C" not null check (to_store <> from_store),
  workspaces text[],
  state text not null check (state in ('running', 'done', 'failed', 'cancelled', 'rolled_back', 'finalized')),
  heading text not null default 'over' check (heading in ('over', 'back', 'closing')),
  total bigint not null,
  moved bigint not null default 0,
  skipped bigint not null default 0,
  failed bigint not null default 0,
  throttled bigint not null default 0,
  started_at timestamptz not null default now(),
  started_by text collate "C" not null,
  finished_at timestamptz
);
create unique index store_migrations_running on store_migrations ((true)) where state = 'running';

-- A credential is in at most one store migration that is neither rolled back nor finalized.
create table store_migration_members (
  credential_id uuid primary key,
  migration_id uuid not null references store_migrations on delete cascade
);
create index on store_migration_members (migration_id, credential_id);

-- What was not moved: `failed` with a code, or it stays where it is for a reason.
create table store_migration_stays (
  migration_id uuid not null references store_migrations on delete cascade,
  copy_id uuid not null,
  workspace text collate "C" not null,
  credential text collate "C" not null,
  version integer not null,
  code text collate "C" not null,
  failed boolean not null,
  noted_at timestamptz not null default now(),
  primary key (migration_id, copy_id)
);

-- Of a source: the store migration that left it. Of a pending copy: the one that named it.
alter table copies add column migration_id uuid;
create index copies_of_migration on copies (migration_id, id) where migration_id is not null;
