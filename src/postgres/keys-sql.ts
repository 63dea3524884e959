import type { Page, PageRequest } from '../core/calls.ts'
import type { KeyRecord } from '../core/records.ts'
import type { Client } from './connections.ts'
import { pageOf } from './pages.ts'

/** A process that was seen less long ago counts as living, in seconds. */
export const PROCESS_ALIVE_SECONDS = 10

/** The keys that seal, that seal copies, or that a living process knows. */
export async function selectKeys(client: Client, page: PageRequest): Promise<Page<KeyRecord>> {
  const { rows } = await client.query(
    `select * from (
       select k.id, k.sealing,
         (select count(*) from copies c where c.key_id = k.id and c.token is not null) as copies,
         array(select p.name || ' ' || p.id from processes p where k.id = any (p.key_ids)
           and p.seen_at > now() - make_interval(secs => $1) order by p.id) as processes
       from keys k where k.id > $2
     ) k
     where k.sealing or k.copies > 0 or cardinality(k.processes) > 0 order by k.id limit $3`,
    [PROCESS_ALIVE_SECONDS, page.after?.[0] ?? '', page.limit + 1],
  )
  return pageOf(rows as KeyRecord[], page.limit, (key) => [key.id])
}
