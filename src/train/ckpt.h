/* ckpt.h: checkpoints of training: files that are whole or not there.
 *
 * A file is written beside its place, synced and renamed, the folder is synced, and only then older ones go. Its table is
 * checked by a hash and each section by its own, so that a file that was cut, or in which a bit fell over, is never taken for
 * a good one: the newest good one before it is. Killed at any byte, a run finds the last checkpoint it had completed.
 *
 *   "motectp1", u64 bytes of the table, the table (JSON), its SHA-256 (64 digits), then each section at a multiple of 64.
 *   table: {"meta": {…}, "sections": [{"name", "at", "bytes", "sha256"}, …]}; little-endian. */
#ifndef MOTE_TRAIN_CKPT_H
#define MOTE_TRAIN_CKPT_H

#include "base/base.h"

typedef struct ckpt_section {
    char name[160];
    void *p; /* live memory: written from here, read back into here */
    size_t n;
} ckpt_section;

/* Writes one file. meta is borrowed. Errors: E_IO (a full disk), E_MEMORY; then no file is there and an old one stands. */
mote_status ckpt_write(const char *path, const json_t *meta, const ckpt_section *s, size_t n, mote_error *err);

typedef struct ckpt ckpt;
/* Opens and checks everything. E_FORMAT: damaged, and how. */
mote_status ckpt_open(ckpt **out, const char *path, mote_error *err);
void ckpt_close(ckpt **c);
const json_t *ckpt_meta(const ckpt *c);
const char *ckpt_path(const ckpt *c);
size_t ckpt_n_sections(const ckpt *c);
const char *ckpt_section_name(const ckpt *c, size_t i);
/* The bytes of a section; {NULL, 0} when there is none of that name. */
str ckpt_find(const ckpt *c, const char *name);
/* Copies sections into live memory. E_MISMATCH: one is missing, of another size, or left over in the file, by name; then nothing was copied. */
mote_status ckpt_read(const ckpt *c, const ckpt_section *s, size_t n, mote_error *err);

/* A folder of them: step-000000000042.mtc. One run at a time holds it. */
typedef struct ckpt_dir ckpt_dir;
/* Makes the folder, locks it (E_BUSY: another run has it), and removes temporary files that a killed run left. keep: so many newest stay (≥ 1). */
mote_status ckpt_dir_open(ckpt_dir **out, const char *path, size_t keep, const log_sink *log, mote_error *err);
void ckpt_dir_close(ckpt_dir **d);
mote_status ckpt_dir_save(ckpt_dir *d, uint64_t step, const json_t *meta, const ckpt_section *s, size_t n, mote_error *err);
/* The newest good one; damaged ones are named in the log and passed over. *out NULL: there is none.
 * E_FORMAT: there are some, and none is good. */
mote_status ckpt_dir_latest(ckpt_dir *d, ckpt **out, mote_error *err);

#endif
