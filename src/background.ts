/** Runs `work` again and again, `everyMs` after its last end. @returns what stops it and waits for its end */
export function repeat(
  everyMs: number,
  work: () => Promise<void>,
  onError: (error: unknown) => void,
): () => Promise<void> {
  let stopped = false
  let running = Promise.resolve()
  let timer: NodeJS.Timeout | undefined
  const next = (): void => {
    if (stopped) return
    timer = setTimeout(() => {
      running = work().catch(onError).then(next)
    }, everyMs)
    timer.unref()
  }
  next()
  return async () => {
    stopped = true
    clearTimeout(timer)
    await running
  }
}

/** Under lease load a rotation and the sweep rest, `restForBusy` times as long as they worked, so that leases come first. */
export function giveWay(granted: () => number, restForBusy: number): (busyMs: number) => number {
  let before = 0
  return (busyMs) => {
    const leases = granted() - before
    before = granted()
    return leases > 0 ? busyMs * restForBusy : 0
  }
}
