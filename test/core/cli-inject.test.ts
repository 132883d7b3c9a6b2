import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { cli } from '../support/cli.ts'
import { temporaryFolder } from '../support/pki.ts'

const deployment = readFileSync(new URL('../golden/inject/deployment-http-probes.yaml', import.meta.url), 'utf8')

describe('inject', () => {
  test('reads stdin, writes manifests to stdout and explains itself on stderr', async () => {
    const run = await cli(['inject'], { stdin: deployment })
    expect(run.code).toBe(0)
    expect(run.stdout).toContain('name: mcp-sidecar')
    expect(run.stderr).toContain('Deployment/shop/web\n')
    expect(run.stderr).toContain('readinessProbe: now asks the sidecar at /app-health/web/readyz')
    expect(run.stderr).toContain('Secret web-mcp-sidecar-tls in shop with tls.crt and tls.key')
    expect(run.stderr).toContain('ConfigMap mcp-sidecar-trust in shop with ca.crt')
    expect(run.stderr).toContain('ConfigMap mcp-sidecar-config in shop with config.yaml')
  })

  test('and uninject gives the same manifest back', async () => {
    const injected = await cli(['inject', '-q', '--listen-env', 'HOST'], { stdin: deployment })
    const restored = await cli(['uninject', '-q'], { stdin: injected.stdout })
    expect(restored).toEqual({ code: 0, stdout: deployment, stderr: '' })
  })

  test('with a Certificate, its Secret need not be there before', async () => {
    const flags = ['--with-certificate', '--cluster-issuer', 'internal-ca']
    const run = await cli(['inject', ...flags], { stdin: deployment })
    expect(run.stdout).toContain('kind: Certificate')
    expect(run.stdout).toContain('kind: ClusterIssuer')
    expect(run.stderr).not.toContain('Secret web-mcp-sidecar-tls in shop with')
  })

  test('takes several files and folders as one stream', async () => {
    const dir = temporaryFolder()
    mkdirSync(join(dir, 'k8s'))
    writeFileSync(join(dir, 'k8s/a.yaml'), deployment)
    writeFileSync(
      join(dir, 'k8s/b.yml'),
      '# the service\nkind: Service\napiVersion: v1\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: mcp}]}',
    )
    writeFileSync(join(dir, 'k8s/README.md'), 'not a manifest: [')
    writeFileSync(join(dir, 'more.json'), '{"kind":"Other"}')
    const run = await cli(['inject', '-f', 'k8s', '-f', 'more.json'], { cwd: dir })
    expect(run.code).toBe(0)
    expect(run.stdout).toContain('targetPort: 8443')
    expect(run.stdout.match(/^---$/gm)).toHaveLength(2)
    expect(run.stdout.endsWith('{"kind":"Other"}')).toBe(true)
  })

  test('a file that begins with a byte order mark is injected wherever it comes', async () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'a.yaml'), deployment)
    writeFileSync(join(dir, 'b.yaml'), `\ufeff${deployment.replace('name: web', 'name: other')}`)
    const run = await cli(['inject', '-f', '.'], { cwd: dir })
    expect(run.stdout.match(/- name: mcp-sidecar$/gm)).toHaveLength(2)
    expect(run.stderr).toContain('Deployment/shop/other\n')
  })

  test('refuses with 1, one line for each problem, and writes nothing', async () => {
    const twice = `${deployment.replace('    spec:', '    spec:\n      hostNetwork: true')}---\n${deployment.replace(/ports:[^]*?startup/, 'startup')}`
    const run = await cli(['inject', '-f', '-'], { stdin: twice })
    expect(run.code).toBe(1)
    expect(run.stdout).toBe('')
    expect(run.stderr).toMatch(
      /^mcp-sidecar: line 1 Deployment\/shop\/web spec\.template\.spec\.hostNetwork: .*\nmcp-sidecar: line \d+ Deployment\/shop\/web spec\.template\.spec\.containers: which port .*\n$/,
    )
  })

  test.each([
    { argv: ['--upstream-port', '0'], says: 'a port from 1 to 65535' },
    { argv: ['--image', ''], says: 'not an image reference' },
    { argv: ['--listen-env', '1X'], says: 'environment variable' },
    { argv: ['--with-certificate'], says: '--issuer or --cluster-issuer' },
    { argv: ['--with-certificate', '--issuer', 'a', '--cluster-issuer', 'b'], says: 'excludes' },
    { argv: ['--listen-env', 'A', '--socket-env', 'B'], says: 'excludes' },
    { argv: ['-f', 'nowhere.yaml'], says: 'cannot read nowhere.yaml: ENOENT' },
    { argv: ['--app-prestop', 'nap'], says: 'Allowed choices' },
    { argv: ['--connections', '-1'], says: 'whole number' },
    { argv: ['--cpu-limit', 'lots'], says: 'quantity' },
  ])('$argv cannot be used', async ({ argv, says }) => {
    const run = await cli(['inject', ...argv], { stdin: deployment, cwd: temporaryFolder() })
    expect(run).toMatchObject({ code: 2, stdout: '' })
    expect(run.stderr).toContain(says)
  })

  test('of nothing is not an empty success', async () => {
    expect(await cli(['inject'], { stdin: ' \n' })).toMatchObject({ code: 2, stdout: '' })
  })
})

test('uninject refuses a record that it cannot read', async () => {
  const broken = deployment.replace(
    '      labels:',
    '      annotations:\n        mcp-sidecar.io/original: "{"\n      labels:',
  )
  const run = await cli(['uninject'], { stdin: broken })
  expect(run).toMatchObject({ code: 1, stdout: '' })
  expect(run.stderr).toContain('mcp-sidecar.io/original: cannot be read')
})
