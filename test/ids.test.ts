import t from 'tap'
import { validate, version } from 'uuid'
import { newId } from '../src/ids.ts'

t.test('ids are UUIDs v7, each above the one before, and none comes twice', async (t) => {
  const ids = Array.from({ length: 20_000 }, newId)
  t.ok(ids.every((id) => validate(id) && version(id) === 7))
  t.equal(new Set(ids).size, ids.length)
  t.same([...ids].sort(), ids)
})

t.test('an id begins with its time', async (t) => {
  const before = Date.now()
  const ms = Number.parseInt(newId().replaceAll('-', '').slice(0, 12), 16)
  t.ok(ms >= before && ms <= Date.now() + 1)
})
