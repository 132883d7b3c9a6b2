// CommonJS, and loaded when it is first needed: a bundle gives an `import()` of it only a default export, and this module its names.
export { collectDefaultMetrics, Registry } from 'prom-client'
