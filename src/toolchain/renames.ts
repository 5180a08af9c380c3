/**
 * Functions of libc that a program reaches under another name, because the runtime (native/runtime) has to stand in
 * between. The same on both ISAs.
 */
import { functionsOf, type Module } from './ir.js'

/** `name` becomes `__imago_name`, or for what may wait long (`waiting.c`) `__imago_wait_name`. */
const wrapped = [
  // threads.c: own shadow stacks; handlers
  ...['pthread_create', 'thrd_create', '_pthread_cleanup_pop', 'signal', 'sigaction'],
  // joinable.c: which threads have records that outlive them
  ...['pthread_detach', 'thrd_detach', 'pthread_timedjoin_np', 'pthread_tryjoin_np'],
  // abi.c: numbers and structures that differ
  ...['open', 'openat', 'fcntl', 'stat', 'lstat', 'fstat', 'fstatat', 'epoll_ctl', 'epoll_wait'],
  ...['feclearexcept', 'feraiseexcept', 'fetestexcept', 'fegetround', 'fesetround'],
]
const waiting = [
  ...['pthread_join', 'pthread_mutex_lock', 'pthread_cond_wait', 'sem_wait'],
  ...['thrd_join', 'mtx_lock', 'cnd_wait', 'thrd_sleep'],
  ...['pthread_barrier_init', 'pthread_barrier_wait', 'pthread_barrier_destroy'],
  ...['nanosleep', 'sleep', 'usleep', 'read', 'waitpid', 'wait'],
]

const WAITING = '__imago_wait_'

/** In place. What the program defines itself under such a name stays its own. */
export function renameLibraryCalls(module: Module): void {
  const own = new Set(functionsOf(module).map(fn => fn.name))
  const names = new Map<string, string>()
  for (const name of wrapped) if (!own.has(name)) names.set(name, `__imago_${name}`)
  for (const name of waiting)
    if (!own.has(name) && own.has(`${WAITING}${name}`)) names.set(name, `${WAITING}${name}`)
  const pattern = new RegExp(`@(${[...names.keys()].join('|')})(?![-\\w.$])`, 'g')
  const rename = (text: string) => text.replace(pattern, (_, name: string) => `@${names.get(name)}`)
  for (const fn of functionsOf(module)) {
    if (fn.name.startsWith(WAITING)) continue
    for (const block of fn.blocks) block.instructions = block.instructions.map(rename)
  }
  for (const [i, item] of module.items.entries()) {
    if (typeof item !== 'string') continue
    // A declaration stays for the runtime's own functions, and is made again under the new name where that is not defined.
    module.items[i] = item.replace(/^(declare .*)|^.*$/gm, (line, declaration: string | undefined) => {
      if (declaration === undefined) return rename(line)
      const renamed = rename(declaration)
      return renamed === declaration || renamed.includes(`@${WAITING}`)
        ? declaration
        : `${declaration}\n${renamed}`
    })
  }
  dropUnused(module)
}

/** Functions of `waiting.c` and `complex.c` that nothing refers to. */
function dropUnused(module: Module): void {
  for (let dropped = true; dropped; ) {
    const used = new Set<string>()
    for (const item of module.items) {
      const lines = typeof item === 'string' ? [item] : item.blocks.flatMap(block => block.instructions)
      for (const line of lines)
        for (const match of line.matchAll(/@(__(?:imago_wait_|mul|div)\w+)/g)) used.add(match[1]!)
    }
    const before = module.items.length
    const kept = module.items.filter(
      item => typeof item === 'string' || !isOptional(item.name) || used.has(item.name),
    )
    module.items.splice(0, before, ...kept)
    dropped = kept.length < before
  }
}

const isOptional = (name: string) => name.startsWith(WAITING) || /^__(mul|div)[sd]c3$/.test(name)
