import { describeConfig } from '../config/describe.ts'
import type { JsonObject } from '../core/json.ts'
import { Live } from '../live/live.ts'
import type { Settings } from '../live/settings.ts'
import { type ReadSettings, readSettings } from './config-source.ts'
import { type FileWatch, watchFiles } from './files/watch-files.ts'

/** What came of one reading of the configuration. */
export interface SettingsOutcome {
  /** `kept`: what was in use stays, because of the problems. */
  readonly result: 'loaded' | 'kept' | 'unchanged'
  readonly generation: number
  readonly problems: readonly string[]
  /** Settings that the file has otherwise than they are in force; they take effect at the next start. */
  readonly waiting: readonly string[]
}

export interface SettingsSourceOptions {
  readonly path: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Called after each reading. */
  readonly onOutcome: (outcome: SettingsOutcome) => void
}

/**
 * Follows the configuration file and what it names, and publishes each valid one as one compiled value: what may change
 * as it is read, and what waits for the next start as it is in force. What is not valid is reported and changes nothing.
 */
export class SettingsSource {
  readonly live: Live<Settings>
  readonly #options: SettingsSourceOptions
  /** What is in force, in the words of the file. */
  #loaded: ReadSettings['loaded']
  #watch: FileWatch | undefined
  #followed: readonly string[]
  /** Watches are begun and ended one after the other. */
  #following: Promise<void> = Promise.resolve()
  #isStopped = false
  #last: SettingsOutcome = { result: 'loaded', generation: 1, problems: [], waiting: [] }

  /** @param first  The reading that the sidecar has started with. */
  constructor(first: ReadSettings, options: SettingsSourceOptions) {
    this.live = new Live(first.settings)
    this.#loaded = first.loaded
    this.#followed = first.loaded.files
    this.#options = options
  }

  /** The last reading: what `/readyz` shows. */
  get last(): SettingsOutcome {
    return this.#last
  }

  start(): Promise<void> {
    return this.#watchAnew()
  }

  /** Follows these from now on; another policy file may be among them. */
  #follow(files: readonly string[]): void {
    const isSame = files.join('\n') === this.#followed.join('\n')
    this.#followed = files
    if (this.#watch !== undefined && !isSame) void this.#watchAnew()
  }

  #watchAnew(): Promise<void> {
    this.#following = this.#following.then(async () => {
      if (this.#isStopped) return
      const before = this.#watch
      this.#watch = await watchFiles({
        paths: this.#followed,
        onChange: async (_files, cause) => {
          // Between its reading and the watch a file that is new here may have changed.
          if (cause !== 'start' || before !== undefined) await this.reload()
        },
      })
      await before?.stop()
    })
    return this.#following
  }

  /** Reads the files now (SIGHUP, `POST /reload`, or because they have changed). */
  async reload(): Promise<SettingsOutcome> {
    const next = await readSettings(this.#options.path, this.#options.env, this.#loaded)
    const { generation, value: before } = this.live.current()
    if (!next.ok) {
      // What is in force, and what would make another: each may change, and then it is read again.
      this.#follow([...new Set([...this.#loaded.files, ...next.error.files])])
      return this.#tell({ result: 'kept', generation, problems: next.error.problems, waiting: [] })
    }
    const { settings, loaded, waiting } = next.value
    this.#loaded = loaded
    this.#follow(loaded.files)
    if (JSON.stringify(settings.config) === JSON.stringify(before.config)) {
      return this.#tell({ result: 'unchanged', generation, problems: [], waiting })
    }
    const published = this.live.publish(settings)
    return this.#tell({ result: 'loaded', generation: published.generation, problems: [], waiting })
  }

  /** The configuration in force, in the words of the file, for `GET /config`. */
  describe(): Promise<JsonObject> {
    return describeConfig(this.#loaded)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#following
    await this.#watch?.stop()
  }

  #tell(outcome: SettingsOutcome): SettingsOutcome {
    this.#last = outcome
    this.#options.onOutcome(outcome)
    return outcome
  }
}
