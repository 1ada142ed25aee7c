/** What a benchmark suite is made of. A suite is a folder here; its `suite.ts` exports a {@link Suite}. */

/** Something that is measured: ours, or a rival. */
export interface Subject {
  /** `zqlite`, or the name under which the rival is installed. */
  name: string
  /** The program that measures it, relative to this folder; runs in a process of its own. See `subject.ts`. */
  program: string
  /** What the program is told before the effort, such as the name of a driver. */
  args?: string[]
  /** Another program to run it with than this Node. */
  runtime?: string
  /** The npm package that must be installed for it, where it is one. */
  requires?: string
  /** The program on PATH that must be there for it, where it is one. */
  requiresProgram?: string
  /** The cases that it can answer; all if absent. */
  cases?: readonly string[]
}

/** One question that every subject answers with a number. */
export interface Case {
  /** Within the suite, such as `1-in-flight`. */
  name: string
  unit: string
  better: 'lower' | 'higher'
  /** What our figure must reach, where something is promised. */
  must?: number
  /** By how much a rival must be beaten, where something is promised: 1 is level. */
  mustRatio?: Record<string, number>
  /** As {@link must} and {@link mustRatio}: shown, and nothing fails by it. */
  aim?: number
  aimRatio?: Record<string, number>
}

export interface Suite {
  name: string
  cases: Case[]
  subjects: Subject[]
  /** Builds what the subjects' programs need beside their packages. */
  prepare?: () => void
  /** What must be known of the machine to judge the figures, such as the time of an fsync. */
  context?: () => Promise<Record<string, string>> | Record<string, string>
}

/** How much a subject's program shall do. */
export interface Effort {
  case: string
  quick: boolean
  /** A folder for files; emptied before each run. */
  folder: string
}
