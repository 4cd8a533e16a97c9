/* curate.h: the parts of mote_data_prepare (include/mote/prepare.h).
 *
 * A document is judged by its words: runs of letters and digits, lower-cased, each as a 64-bit hash; a character of a script that
 * is written without spaces is a word by itself. */
#ifndef MOTE_TRAIN_CURATE_H
#define MOTE_TRAIN_CURATE_H

#include "base/base.h"
#include "mote/prepare.h"

typedef struct words {
    uint64_t *hash;
    uint32_t *from, *len; /* bytes in the text */
    size_t n, cap, cap_from, cap_len;
} words;
void words_free(words *w);
mote_status words_of(words *w, str text, mote_error *err);
/* The hash of words [at, at + n). */
uint64_t words_gram(const words *w, size_t at, size_t n);

/* ---- curate_rules.c ---- */
/* The reason why the text is left out, or MOTE_DATA_REASONS. */
mote_data_reason curate_judge(const mote_data_options *o, str text, const words *w);
/* E_USAGE: an unknown script, language. */
mote_status curate_check(const mote_data_options *o, mote_error *err);

/* ---- curate_private.c ---- */
/* Appends text to out with personal data replaced by "<e-mail>", "<phone>", … Returns how many places that were. */
size_t curate_redact(str text, buf *out);

/* ---- curate_same.c ---- */
typedef struct same_set same_set; /* documents seen, exactly and nearly */
mote_status same_open(same_set **out, const mote_data_options *o, mote_error *err);
void same_close(same_set **s);
/* Remembers the document when it is new; else *reason is DUPLICATE or NEAR. */
mote_status same_check(same_set *s, const words *w, mote_data_reason *reason, mote_error *err);

typedef struct gram_set gram_set; /* word sequences of evaluation files */
mote_status gram_open(gram_set **out, size_t n_words, mote_error *err);
void gram_close(gram_set **g);
mote_status gram_add_file(gram_set *g, const char *path, mote_error *err);
bool gram_hits(const gram_set *g, const words *w);

/* ---- curate.c ---- */
mote_status curate_prepare(const char *const *paths, size_t n_paths, const char *out, const mote_data_options *o, mote_data_report *report,
                           mote_error *err);

#endif
