/** The command line and its record belong to the format, which prints them too. */
export * from '../../formats/qemu/machine-line.js'
