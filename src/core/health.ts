/** What a process says of itself. `checks` names what decides (`ok` or what is wrong) and what is only shown. */
export interface HealthReport {
  ready: boolean
  checks: Record<string, unknown>
}

/** The state of the service, from a check that is at most `maxAgeMs` old. */
export class Health {
  readonly #check: () => Promise<HealthReport>
  readonly #maxAgeMs: number
  #checkedAt = -Infinity
  #last: Promise<HealthReport> | undefined

  constructor(check: () => Promise<HealthReport>, maxAgeMs: number) {
    this.#check = check
    this.#maxAgeMs = maxAgeMs
  }

  /** Those who ask while a check runs share it. */
  report(): Promise<HealthReport> {
    const now = performance.now()
    if (!this.#last || now - this.#checkedAt > this.#maxAgeMs) {
      this.#checkedAt = now
      this.#last = this.#check()
    }
    return this.#last
  }
}
