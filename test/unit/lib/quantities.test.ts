import { describe, expect, it } from 'vitest'
import { UsageError } from '../../../src/lib/errors.js'
import { parseFrequency, parseSize, parseTime } from '../../../src/lib/quantities.js'

describe('amounts on the command line', () => {
  it.each([
    ['500ms', 500],
    ['1.5s', 1500],
    ['5', 5000],
    ['10m', 600_000],
    ['10min', 600_000],
    ['2h', 7_200_000],
    ['9999h', 2 ** 31 - 1],
  ])('the time %s is %d ms', (text, milliseconds) => expect(parseTime(text)).toBe(milliseconds))

  it.each([
    ['4096', 4096],
    ['64M', 64 * 2 ** 20],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['128kb', 128 * 2 ** 10],
  ])('the size %s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes))

  it.each([
    ['1GHz', 1e9],
    ['2600 MHz', 2.6e9],
    ['1000', 1000],
  ])('the frequency %s is %d Hz', (text, hertz) => expect(parseFrequency(text)).toBe(hertz))

  it.each(['', '-1', '5x', 'ms', '1e3', ' 5'])('%j is none of them', text => {
    expect(() => parseTime(text)).toThrow(UsageError)
    expect(() => parseSize(text)).toThrow(UsageError)
    expect(() => parseFrequency(text)).toThrow(UsageError)
  })
})
