-- Store migrations: what stays is known by its credential and version, and each run says when it last got on.

-- A key rotation gives a copy another id: then what stays was counted a second time. Where the copy is forgotten, its own id
-- stands for a credential that is no more.
alter table store_migration_stays add column credential_id uuid;
update store_migration_stays s
  set credential_id = coalesce((select k.credential_id from copies k where k.id = s.copy_id), s.copy_id);
delete from store_migration_stays s using store_migration_stays later
  where later.migration_id = s.migration_id and later.credential_id = s.credential_id and later.version = s.version
    and later.copy_id > s.copy_id;
alter table store_migration_stays
  drop constraint store_migration_stays_pkey,
  drop column copy_id,
  add primary key (migration_id, credential_id, version);

-- When some process last moved or pointed back copies, or was asked for patience: none gives up a run in which others get on.
alter table store_migrations add column progressed_at timestamptz not null default now();
