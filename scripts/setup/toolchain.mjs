/** What `imago cc` is made of: clang 19 and musl, as Debian ships them. */
import { unpackDebian } from './debian.mjs'

/** clang, opt, llc and lld 19, and the libraries that a bare host lacks; none of the packages a compiler's host would need. */
export function makeClang(into) {
  const tools = ['clang-19', 'libclang-cpp19', 'libclang-common-19-dev', 'libllvm19', 'llvm-19', 'lld-19']
  const libraries = [
    'libedit2',
    'libz3-4',
    'libxml2',
    'libtinfo6',
    'libzstd1',
    'libbsd0',
    'libmd0',
    'libicu72',
  ]
  const packages = [...tools, ...libraries, 'libffi8', 'zlib1g']
  unpackDebian({ suite: 'bookworm', architecture: 'amd64', packages, closure: false }, into)
}

/** musl and libgcc.a for both ISAs. */
export function makeMusl(into) {
  const unpack = (architecture, packages) =>
    unpackDebian({ suite: 'bookworm', architecture, packages, closure: false }, into)
  unpack('amd64', ['musl-dev', 'libgcc-12-dev', 'libgcc-12-dev-arm64-cross'])
  unpack('arm64', ['musl-dev'])
}
