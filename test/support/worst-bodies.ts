/** Names with one and the same 32-bit FNV-1a hash, found by meeting in the middle. */
export const ONE_HASH = (
  'adxrnbv0 aggrn4db ajq0ss83 aj21hlkl ak129qbv am3si7e8 aptbjrj0 av5tu65o awgf7hk8 axrva1yq a04l0yuv a2o2916m' +
  ' a2yj18nr a2y2wvhd a3kxd1xg a3wsupks a49o2mi4 a7m09g5o baghvn09 bayufvqi ba1d8l0o bbxl2yc1 bdod7cq1 bel033hn'
).split(' ')

/** Bodies of a given size, each the worst that is known for some step of the reading, by what it aims at. */
export function worstBodies(size: number): Record<string, Buffer> {
  const inArguments = (text: string) =>
    Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":${text}}}`)
  const fill = (unit: string) => unit.repeat(Math.ceil(size / Buffer.byteLength(unit)))
  return {
    'many short names': inArguments(`{"o":{${names(size, i => i.toString(36))}}}`),
    'many short arguments': inArguments(`{${names(size, i => i.toString(36))}}`),
    'names of one hash place': inArguments(`{"o":{${names(size, crowd())}}}`),
    'names of one hash': inArguments(`[${fill(`{${ONE_HASH.map(name => `"${name}":0`).join(',')}},`)}0]`),
    'names that are numbers': inArguments(`{"o":{${names(size, i => String(i * 65_536))}}}`),
    'names with escapes': inArguments(`{"o":{${names(size, i => `\\u0061${i.toString(36)}`)}}}`),
    'arguments beyond ASCII': inArguments(`{${names(size, i => `é${i.toString(36)}`)}}`),
    'long names that fold': Buffer.from(`{${names(size, i => `${'\u0301'.repeat(120)}${i}`)}}`),
    'one endless name': inArguments(`{"${'\u0301'.repeat(size >> 1)}":1}`),
    'objects of seventeen names': inArguments(
      `[${fill(`{${Array.from({ length: 17 }, (_, i) => `"${i}":0`).join(',')}},`)}0]`,
    ),
    'empty objects': inArguments(`[${fill('{},')}0]`),
    'deep arrays': inArguments(fill('[')),
    'deep arrays, closed': inArguments('['.repeat(size >> 1) + ']'.repeat(size >> 1)),
    'deep objects': inArguments(fill('{"a":')),
    'as deep as allowed, again and again': inArguments(`[${fill(`${'['.repeat(55)}${']'.repeat(55)},`)}0]`),
    backslashes: inArguments(`"${fill('\\\\')}"`),
    quotes: inArguments(`"${fill('\\"')}"`),
    'unicode escapes': inArguments(`"${fill('\\ud83d')}"`),
    'an unclosed string': inArguments(`"${fill('x')}`),
    digits: inArguments(fill('9')),
    blanks: Buffer.from(fill(' ')),
    commas: inArguments(`[${fill(',')}]`),
    'empty strings': inArguments(`[${fill('"",')}0]`),
    'a long id': Buffer.from(`{"jsonrpc":"2.0","id":"${fill('i')}","method":"ping"}`),
    'a long method': Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"${fill('m')}"}`),
    'a long tool name': Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${fill('n')}"}}`),
    'a long URI': Buffer.from(
      `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a://${fill('%41/../')}"}}`,
    ),
    'many subscriptions': Buffer.from(
      `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[${fill('"A://h/%41/..",')}"a://b"]}}}`,
    ),
    'a thousand long subscriptions': Buffer.from(
      `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[${Array.from({ length: 999 }, (_, i) => `"A://h/${'%41%2D/../'.repeat(Math.floor(size / 10_100))}${i}"`).join(',')}]}}}`,
    ),
    'a batch': Buffer.from(`[${fill('{"jsonrpc":"2.0","id":1,"method":"ping"},')}1]`),
  }
}

function names(size: number, nameOf: (i: number) => string): string {
  const parts: string[] = []
  let length = 0
  for (let i = 0; length < size; i++) {
    const part = `"${nameOf(i)}":0`
    parts.push(part)
    length += Buffer.byteLength(part) + 1
  }
  return parts.join(',')
}

/** Names whose hashes agree in the bits that choose a place in a small table. */
function crowd(): () => string {
  let i = 0
  return () => {
    for (;;) {
      const name = (i++).toString(36)
      let hash = 0x811c9dc5 | 0
      for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193)
      hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
      if (((hash ^ (hash >>> 13)) & 0x1ff) === 0) return name
    }
  }
}
