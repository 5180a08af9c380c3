/**
 * What a QEMU `-cpu` line offers the guest, and the line that offers what a guest has already seen. A kernel has
 * patched itself for the CPU that it booted on; the stream does not hold CPUID, only the command line says it.
 */
import { baseFeatures, featureName, informationalFeatures } from '../../isa/x86-cpu-features.js'
import { cpuModels } from './cpu-models.js'

/** The features that the value of `-cpu` offers, or undefined for a model that is not known here (`host`). */
export function offeredFeatures(line: string): Set<string> | undefined {
  const [model, ...changes] = line.split(',') as [string, ...string[]]
  const base = cpuModels[model.replace(/-v1$/, '')]
  if (base === undefined) return undefined
  const features = new Set([...baseFeatures, ...base.split(' ')])
  for (const change of changes) {
    const match = /^([+-]?)([\w.-]+?)(?:=(on|off))?$/.exec(change)
    if (match === null) continue
    if (match[1] === '-' || match[3] === 'off') features.delete(featureName(match[2]!))
    else if (match[1] === '+' || match[3] === 'on') features.add(featureName(match[2]!))
  }
  return features
}

/** `line` with what is missing of `wanted` added, but for what a guest cannot miss. */
export function widenedLine(line: string, wanted: Iterable<string>): string {
  const offered = offeredFeatures(line)
  if (offered === undefined) return line
  const missing = [...wanted]
    .map(featureName)
    .filter(name => !offered.has(name) && !informationalFeatures.has(name))
  if (missing.length === 0) return line
  // A feature that the line takes away is given back by leaving that word out.
  const kept = line
    .split(',')
    .filter(word => !(word.startsWith('-') && missing.includes(featureName(word.slice(1)))))
  return [...kept, ...missing.map(name => `+${name}`)].join(',')
}
