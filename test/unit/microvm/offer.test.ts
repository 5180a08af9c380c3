import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { claimImage, holdStarted, Offer } from '../../../src/migrate/offer.js'
import { temporaryFolder } from '../../helpers/temporary-folder.js'

const content = (file: string) => fs.readFileSync(file, 'utf8')

function sample(): string {
  const image = path.join(temporaryFolder(), 'a.vm')
  fs.writeFileSync(image, 'whole')
  return image
}
const names = (image: string) => fs.readdirSync(path.dirname(image)).sort()

test('an offer that a killed process left is taken up under its id, and gone when the target runs it', () => {
  const image = sample()
  const first = Offer.open(image, content)
  const { id } = first
  first.close()
  const second = Offer.open(image, content)
  expect(second).toMatchObject({ id, decided: false, path: image })
  second.decide('store-1')
  second.close()
  expect(names(image)).toEqual(['a.vm.sending', 'a.vm.sent'])
  const third = Offer.open(image, content)
  expect(third).toMatchObject({ id, decided: true, store: 'store-1', path: `${image}.sent` })
  third.gone()
  expect(names(image)).toEqual(['a.vm.sent'])
  expect(() => Offer.open(image, content)).toThrow('was sent before')
})

test('another image under the same name is never sent under the old id', () => {
  const image = sample()
  const first = Offer.open(image, content)
  first.close()
  fs.writeFileSync(image, 'another')
  const second = Offer.open(image, content)
  expect(second.id).not.toBe(first.id)
  second.close()
})

test('two processes do not send one machine', () => {
  const image = sample()
  const first = Offer.open(image, content)
  expect(() => Offer.open(image, content)).toThrow('another process is sending this machine')
  expect(() => claimImage(image)).toThrow('another process is sending this machine')
  first.close()
})

test('a machine that was given away does not run here; one that is only offered is taken back', () => {
  const image = sample()
  const offer = Offer.open(image, content)
  offer.close()
  expect(claimImage(image)).toContain('withdrawn')
  expect(names(image)).toEqual(['a.vm'])
  const again = Offer.open(image, content)
  expect(again.id).not.toBe(offer.id)
  again.decide('store-1')
  expect(() => Offer.refuseInDoubt(image)).toThrow('not finished')
  expect(() => claimImage(`${image}.sent`)).toThrow('given to another host')
  again.takeBack()
  expect(names(image)).toEqual(['a.vm'])
  expect(claimImage(image)).toBeUndefined()
})

test('an image that arrived runs only when its source has given it up, and once at a time', () => {
  const store = temporaryFolder()
  const id = '12345678-1234-1234-1234-123456789abc'
  const image = path.join(store, `${id}.vm`)
  fs.writeFileSync(path.join(store, 'store-id'), 'x')
  fs.writeFileSync(image, 'whole')
  expect(() => claimImage(image)).toThrow('has not given it up')
  fs.writeFileSync(path.join(store, `${id}.started`), '')
  holdStarted(path.join(store, `${id}.started`))
  expect(() => claimImage(image)).toThrow('runs already')
})
