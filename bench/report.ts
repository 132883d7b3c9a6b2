import { mkdirSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { root } from './lab.ts'

/** One table of the report: a title, what it says, and rows of text. */
export interface Table {
  readonly title: string
  readonly about: string
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

export interface Bar {
  readonly name: string
  readonly value: number
}

/** How the run was made. */
export interface Run {
  readonly command: string
  /** Share of the CPU time of the machine that its hypervisor gave to others, 0 to 1. */
  readonly stolenShare: number
}

/** Writes `bench/results/latest.md` and the plot beside it. @returns the path of the first. */
export function writeReport(tables: readonly Table[], cpu: readonly Bar[], { command, stolenShare }: Run): string {
  const dir = path.join(root, 'bench/results')
  mkdirSync(dir, { recursive: true })
  const [cpuModel] = os.cpus()
  const lines = [
    '# A run of the bench',
    '',
    `${new Date().toISOString()}, Node ${process.versions.node}, ${os.cpus().length} × ${cpuModel?.model ?? 'CPU'}, ` +
      `load average ${os.loadavg()[0]?.toFixed(1)} at the end, ${(stolenShare * 100).toFixed(1)} % of the CPU time taken by the ` +
      `hypervisor: \`${command}\``,
    '',
    'Ratios are of the same rounds of this one run; figures of another machine, or of another day, cannot be compared.',
    '',
    '![CPU of one call](latest.svg)',
    '',
  ]
  for (const { title, about, head, rows } of tables) {
    lines.push(`## ${title}`, '', about, '', `| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`)
    for (const row of rows) lines.push(`| ${row.join(' | ')} |`)
    lines.push('')
  }
  const file = path.join(dir, 'latest.md')
  writeFileSync(file, lines.join('\n'))
  writeFileSync(path.join(dir, 'latest.svg'), plot('CPU of one call, µs', cpu))
  return file
}

/** The table as it is read on a terminal. */
export function textOf({ title, head, rows }: Table): string {
  const widths = head.map((name, at) => Math.max(name.length, ...rows.map(row => row[at]?.length ?? 0)))
  const line = (cells: readonly string[]): string => cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')
  return [`\n${title}`, line(head), ...rows.map(line)].join('\n')
}

/** Horizontal bars, the longest as wide as the picture. */
export function plot(title: string, bars: readonly Bar[]): string {
  const most = Math.max(1, ...bars.map(({ value }) => value))
  const height = 44 + bars.length * 28
  const rows = bars.map(({ name, value }, at) => {
    const y = 40 + at * 28
    const width = Math.max(1, (value / most) * 420)
    return (
      `<text x="110" y="${y + 14}" text-anchor="end">${escaped(name)}</text>` +
      `<rect x="120" y="${y}" width="${width.toFixed(1)}" height="20" fill="${name === 'sidecar' ? '#2563eb' : '#94a3b8'}"/>` +
      `<text x="${(126 + width).toFixed(1)}" y="${y + 14}">${value.toFixed(1)}</text>`
    )
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="620" height="${height}" viewBox="0 0 620 ${height}" font-family="sans-serif" font-size="13" fill="#0f172a">
<rect width="620" height="${height}" fill="#ffffff"/>
<text x="10" y="22" font-weight="bold">${escaped(title)}</text>
${rows.join('\n')}
</svg>
`
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, char => `&#${char.charCodeAt(0)};`)
}
