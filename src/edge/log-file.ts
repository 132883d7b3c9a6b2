import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'

/**
 * Reads a file line by line, also one that log rotation has compressed (`.gz`).
 *
 * @param onLine  Given each line without its line feed, valid only during the call, and its number from 1.
 * @param onBytes Given the number of bytes read from the disk so far.
 * @returns       The bytes after the last line feed, when there are any, and their line number.
 */
export async function readLines(
  path: string,
  onLine: (line: Buffer, number: number) => void,
  onBytes: (read: number) => void,
): Promise<{ rest: Buffer; number: number } | undefined> {
  const file = createReadStream(path, { highWaterMark: 1 << 20 })
  const text: Readable = path.endsWith('.gz') ? file.pipe(createGunzip({ chunkSize: 1 << 20 })) : file
  if (text !== file) file.on('error', error => text.destroy(error))
  let number = 0
  let held: Buffer[] = []
  for await (const chunk of text as AsyncIterable<Buffer>) {
    let from = 0
    for (let feed = chunk.indexOf(10); feed >= 0; feed = chunk.indexOf(10, from)) {
      const piece = chunk.subarray(from, feed)
      number += 1
      if (held.length === 0) onLine(piece, number)
      else {
        onLine(Buffer.concat([...held, piece]), number)
        held = []
      }
      from = feed + 1
    }
    if (from < chunk.length) held.push(chunk.subarray(from))
    onBytes(file.bytesRead)
  }
  return held.length === 0 ? undefined : { rest: Buffer.concat(held), number: number + 1 }
}

/** The first time of an audit line near the beginning of a file, or undefined; for putting rotated files in order. */
export async function firstTimestamp(path: string): Promise<string | undefined> {
  const head = path.endsWith('.gz')
    ? await firstOf(createReadStream(path).pipe(createGunzip()))
    : await firstBytes(path)
  return /\\?"timestamp\\?":\\?"(\d{4}-[\dT:.-]{10,20}Z)/.exec(head.toString('latin1'))?.[1]
}

async function firstBytes(path: string): Promise<Buffer> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1 << 16), 0, 1 << 16, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function firstOf(stream: Readable): Promise<Buffer> {
  for await (const chunk of stream as AsyncIterable<Buffer>) return chunk
  return Buffer.alloc(0)
}
