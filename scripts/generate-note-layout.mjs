#!/usr/bin/env node
/** Writes native/common/note-layout.h from the table in src/formats/core/note-layout.ts. Needs a fresh build. */
import fs from 'node:fs'
import { noteLayoutHeader } from '../dist/formats/core/note-layout-header.js'

fs.writeFileSync(new URL('../native/common/note-layout.h', import.meta.url), noteLayoutHeader())
