/** The archive of everything below `folder`, parents before children. */
export function cpioOf(folder: string): Buffer
