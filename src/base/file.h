/* file.h: reading files whole or mapped, and writing them so that no half-written file is ever seen. */
#ifndef MOTE_BASE_FILE_H
#define MOTE_BASE_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A file's bytes: mapped read-only, or read into memory. Refuses all but regular files. */
typedef struct file_map {
    const unsigned char *p;
    size_t n;
    bool mapped;
} file_map;

enum { FILE_MAP = 0, FILE_READ = 1 }; /* FILE_READ copies into memory instead of mapping (--no-mmap) */
mote_status file_open(file_map *out, const char *path, int how, mote_error *err);
/* The same below an open directory, for names that come from a file (index.json): the name must be a plain
 * relative one; absolute paths, "..", and links that lead out of the directory are refused. */
mote_status file_open_at(file_map *out, const char *dir, const char *name, int how, mote_error *err);
void file_close(file_map *m); /* NULL-safe, sets everything to 0 */
bool file_is_dir(const char *path);
/* The n bytes at p are not needed for now: if they lie in a file_map that is mapped, their pages are given back, and are
 * read from the file again when they are touched. Other memory is left alone. Thread: any. */
void file_drop(const void *p, size_t n);

/* Writing: a temporary file beside the target, then fsync, rename, fsync of the folder. */
typedef struct file_writer {
    FILE *f;
    char *path, *tmp;
    uint64_t written;
} file_writer;

mote_status file_writer_open(file_writer *w, const char *path, mote_error *err);
mote_status file_write(file_writer *w, const void *p, size_t n, mote_error *err);
/* Makes the file appear under its name. On failure the temporary file is gone and any old file stands. */
mote_status file_writer_commit(file_writer *w, mote_error *err);
void file_writer_abort(file_writer *w); /* also safe after commit */

/* A file that shrinks while it is mapped raises SIGBUS on the next touch. These are the means to end with
 * a message; the program installs the handler (the library never touches signals by itself):
 * file_guard_contains(addr) is async-signal-safe and tells whether an address lies in a live mapping. */
bool file_guard_contains(const void *addr);

#endif
