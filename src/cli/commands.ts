/** Every verb, in the order in which the overview shows them. One file each under `verbs/`. */
import type { CommandEntry } from './command.js'

export const commands: readonly CommandEntry[] = [
  {
    name: 'run',
    group: 'process',
    summary: 'start a program that can be checkpointed',
    load: () => import('./verbs/run.js'),
  },
  {
    name: 'checkpoint',
    group: 'process',
    summary: 'freeze a running program into an image',
    load: () => import('./verbs/checkpoint.js'),
  },
  {
    name: 'restore',
    group: 'process',
    summary: 'wake up the program that an image holds',
    load: () => import('./verbs/restore.js'),
  },
  {
    name: 'inspect',
    group: 'image',
    summary: 'show what is inside an image',
    load: () => import('./verbs/inspect.js'),
  },
  {
    name: 'diff',
    group: 'image',
    summary: 'compare two images',
    load: () => import('./verbs/diff.js'),
  },
  {
    name: 'verify',
    group: 'image',
    summary: 'check that an image is whole and consistent',
    load: () => import('./verbs/verify.js'),
  },
  {
    name: 'convert',
    group: 'image',
    summary: 'write an image in another format',
    load: () => import('./verbs/convert.js'),
  },
  {
    name: 'pages',
    group: 'image',
    summary: 'show what lies in each page of a process image',
    load: () => import('./verbs/pages.js'),
  },
  {
    name: 'retarget',
    group: 'image',
    summary: 'turn a process image into one of the other ISA',
    load: () => import('./verbs/retarget.js'),
  },
  {
    name: 'criu decode',
    group: 'image',
    summary: 'print a CRIU image file as JSON',
    load: () => import('./verbs/criu-decode.js'),
  },
  {
    name: 'criu encode',
    group: 'image',
    summary: 'make a CRIU image file from JSON',
    load: () => import('./verbs/criu-encode.js'),
  },
  {
    name: 'criu show',
    group: 'image',
    summary: 'print a CRIU image file as JSON for people',
    load: () => import('./verbs/criu-show.js'),
  },
  {
    name: 'criu info',
    group: 'image',
    summary: 'say what a CRIU image file is',
    load: () => import('./verbs/criu-info.js'),
  },
  {
    name: 'criu x',
    group: 'image',
    summary: 'list what is in a CRIU image directory',
    load: () => import('./verbs/criu-x.js'),
  },
  {
    name: 'vm run',
    group: 'machine',
    summary: 'run a static program in a micro-VM that can be saved at any moment',
    load: () => import('./verbs/vm-run.js'),
  },
  {
    name: 'vm restore',
    group: 'machine',
    summary: 'let a saved micro-VM go on',
    load: () => import('./verbs/vm-restore.js'),
  },
  {
    name: 'vm capture',
    group: 'machine',
    summary: 'boot a machine in QEMU and save it at a chosen moment',
    load: () => import('./verbs/vm-capture.js'),
  },
  {
    name: 'vm resume',
    group: 'machine',
    summary: 'let a machine image go on in QEMU',
    load: () => import('./verbs/vm-resume.js'),
  },
  {
    name: 'vm template',
    group: 'machine',
    summary: 'make a QEMU stream to pour other machines into',
    load: () => import('./verbs/vm-template.js'),
  },
  {
    name: 'path',
    group: 'imago',
    summary: "print where one of imago's native parts lies",
    load: () => import('./verbs/path.js'),
  },
  {
    name: 'formats',
    group: 'imago',
    summary: 'list the image formats and what works with each',
    load: () => import('./verbs/formats.js'),
  },
  {
    name: 'check',
    group: 'imago',
    summary: 'say what this host can do, and the cure for what it cannot',
    load: () => import('./verbs/check.js'),
  },
  {
    name: 'completion',
    group: 'imago',
    summary: 'print the completion script of a shell',
    load: () => import('./verbs/completion.js'),
  },
  {
    name: 'man',
    group: 'imago',
    summary: 'print a manual page (roff)',
    load: () => import('./verbs/man.js'),
  },
]
