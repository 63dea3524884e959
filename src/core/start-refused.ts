/** The service must not start like this; each fault says what is wrong and what to do. Exit code 78. */
export class StartRefused extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('; '))
    this.name = 'StartRefused'
    this.faults = faults
  }
}
