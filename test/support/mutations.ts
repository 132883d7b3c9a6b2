import fc from 'fast-check'

/** Texts in which a few characters have been dropped, doubled, changed or moved. */
export function mutated(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const edit = fc.record({
    kind: fc.constantFrom('drop', 'double', 'change', 'insert', 'cut'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    by: fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '\\',
      '0',
      '1',
      '-',
      '.',
      'e',
      't',
      ' ',
      '\n',
      '\u0000',
      'é',
      '\ufeff',
    ),
  })
  return fc.tuple(texts, fc.array(edit, { minLength: 1, maxLength: 3 })).map(([text, edits]) => {
    let out = text
    for (const { kind, at, by } of edits) {
      const i = Math.floor(at * out.length)
      if (kind === 'drop') out = out.slice(0, i) + out.slice(i + 1)
      else if (kind === 'double') out = out.slice(0, i + 1) + out.slice(i)
      else if (kind === 'change') out = out.slice(0, i) + by + out.slice(i + 1)
      else if (kind === 'insert') out = out.slice(0, i) + by + out.slice(i)
      else out = out.slice(0, i)
    }
    // An edit may split a pair of surrogates, and bytes cannot carry that.
    return out.toWellFormed()
  })
}
