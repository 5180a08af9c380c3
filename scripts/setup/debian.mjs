/**
 * Debian packages: installed on the host, or unpacked into the cache (any suite and architecture) through a
 * private apt root, so that the host's own system is not touched.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { cache, remark, say } from './say.mjs'

// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format language
const PACKAGE_AND_STATUS = '${Package} ${db:Status-Status}\n'

const quietly = { stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 28 }

/** A set-up that cannot go on here: exit code 5, as imago's own. */
export class CannotSetUp extends Error {
  exitCode = 5
}

/** Names of `packages` that are not installed on this host. */
export function missingHostPackages(packages) {
  if (packages.length === 0) return []
  const found = spawnSync('dpkg-query', ['-W', '-f', PACKAGE_AND_STATUS, ...packages], {
    encoding: 'utf8',
  })
  const installed = new Set(
    (found.stdout ?? '')
      .split('\n')
      .filter(line => line.endsWith(' installed'))
      .map(line => line.split(' ')[0]),
  )
  return packages.filter(name => !installed.has(name))
}

/** Installs what is missing when root; otherwise says what to install and goes on: tests skip, with the reason. */
export function installHostPackages(packages) {
  const missing = missingHostPackages(packages)
  if (missing.length === 0) return
  if (process.getuid() !== 0 || !fs.existsSync('/usr/bin/apt-get')) {
    say(`these Debian packages are missing and I am not root: sudo apt-get install ${missing.join(' ')}`)
    return
  }
  say(`Debian packages: ${missing.join(' ')}`)
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...words) =>
    spawnSync('apt-get', ['-qq', '-y', '-o', 'DPkg::Lock::Timeout=300', ...words], {
      env: environment,
      encoding: 'utf8',
    })
  apt('update')
  const result = apt('install', '--no-install-recommends', ...missing)
  if (result.status !== 0)
    throw new CannotSetUp(
      `apt-get install failed:\n${(result.stderr || result.stdout).trim().split('\n').slice(-5).join('\n')}`,
    )
}

/** The mirror and keyring this host's own apt uses. */
function mirror() {
  const deb822 = '/etc/apt/sources.list.d/debian.sources'
  if (fs.existsSync(deb822)) {
    const text = fs.readFileSync(deb822, 'utf8')
    const uri = /^URIs: *(\S+)/m.exec(text)?.[1]
    const key = /^Signed-By: *(\S+)/m.exec(text)?.[1]
    if (uri) return { uri, key }
  }
  for (const file of ['/etc/apt/sources.list', ...list('/etc/apt/sources.list.d', '.list')]) {
    if (!fs.existsSync(file)) continue
    const line = /^deb +(?:\[[^\]]*\] +)?(\S+) +\S+ +main/m.exec(fs.readFileSync(file, 'utf8'))
    if (line) return { uri: line[1], key: undefined }
  }
  throw new CannotSetUp('no Debian mirror found in /etc/apt: this set-up works on Debian')
}

function list(directory, ending) {
  return fs.existsSync(directory)
    ? fs
        .readdirSync(directory)
        .filter(name => name.endsWith(ending))
        .map(name => path.join(directory, name))
    : []
}

/**
 * A private apt root for one suite and architecture; returns a function that runs an apt tool in it.
 * @param kind of what it lists: 'deb' packages, 'deb-src' their sources.
 */
function aptRoot(suite, architecture, kind = 'deb') {
  const root = path.join(cache, 'apt', `${suite}-${kind === 'deb' ? architecture : 'source'}`)
  const { uri, key } = mirror()
  for (const name of [
    'etc/apt/preferences.d',
    'etc/apt/sources.list.d',
    'etc/apt/apt.conf.d',
    'var/lib/apt/lists/partial',
    'var/cache/apt/archives/partial',
    'var/lib/dpkg',
  ])
    fs.mkdirSync(path.join(root, name), { recursive: true })
  fs.writeFileSync(path.join(root, 'var/lib/dpkg/status'), '')
  fs.writeFileSync(
    path.join(root, 'etc/apt/sources.list'),
    `${kind} [arch=${architecture}${key ? ` signed-by=${key}` : ''}] ${uri} ${suite} main\n`,
  )
  const configuration = path.join(root, 'apt.conf')
  fs.writeFileSync(
    configuration,
    `Dir "${root}";
Dir::State::status "${root}/var/lib/dpkg/status";
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "${os.userInfo().username}";
`,
  )
  const apt = (tool, words, cwd) =>
    execFileSync(tool, words, {
      ...quietly,
      encoding: 'utf8',
      cwd,
      env: { ...process.env, APT_CONFIG: configuration },
    })
  const fresh = path.join(root, 'updated')
  if (!fs.existsSync(fresh) || Date.now() - fs.statSync(fresh).mtimeMs > 3_600_000) {
    apt('apt-get', ['-qq', 'update'])
    fs.writeFileSync(fresh, '')
  }
  return { root, apt }
}

/** Names of the packages that `name` depends on and that match `pattern`: for metapackages such as linux-image-cloud-arm64. */
export function dependenciesMatching({ suite, architecture }, name, pattern) {
  const { apt } = aptRoot(suite, architecture)
  return apt('apt-cache', ['depends', name])
    .split('\n')
    .map(line => /Depends: (\S+)/.exec(line)?.[1])
    .filter(found => found && pattern.test(found))
}

/**
 * Downloads packages and unpacks them below `into` (made new).
 * @param options.closure with all their dependencies (default), or only the named ones.
 */
export function unpackDebian(options, into) {
  const { suite, architecture, packages, closure = true } = options
  remark(`${packages.join(' ')} of ${suite} (${architecture})`)
  const { root, apt } = aptRoot(suite, architecture)
  const downloads = path.join(into, '.debs')
  fs.mkdirSync(downloads, { recursive: true })
  if (closure) {
    const archives = path.join(root, 'var/cache/apt/archives')
    for (const deb of list(archives, '.deb')) fs.rmSync(deb)
    apt('apt-get', ['-qq', '-y', 'install', '--download-only', ...packages])
    for (const deb of list(archives, '.deb')) fs.renameSync(deb, path.join(downloads, path.basename(deb)))
  } else apt('apt-get', ['-qq', 'download', ...packages], downloads)
  for (const deb of list(downloads, '.deb')) execFileSync('dpkg', ['-x', deb, into], quietly)
  fs.rmSync(downloads, { recursive: true })
}

/** Downloads the upstream sources of source packages and unpacks them below `into`, without Debian's patches. */
export function unpackDebianSources({ suite, packages }, into) {
  remark(`sources of ${packages.join(' ')} of ${suite}`)
  const { apt } = aptRoot(suite, 'amd64', 'deb-src')
  const downloads = path.join(into, '.sources')
  fs.mkdirSync(downloads, { recursive: true })
  apt('apt-get', ['-qq', 'source', '--download-only', ...packages], downloads)
  for (const archive of fs.readdirSync(downloads).filter(name => /\.orig\.tar\.\w+$/.test(name)))
    execFileSync('tar', ['-C', into, '-xf', path.join(downloads, archive)], quietly)
  fs.rmSync(downloads, { recursive: true })
}
