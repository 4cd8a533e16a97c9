/* data_int.h: what the files of the data set share. */
#ifndef MOTE_TRAIN_DATA_INT_H
#define MOTE_TRAIN_DATA_INT_H

#include "train/data.h"

#include <sys/stat.h>

/* The first, the last part of its document; held out; the first part of a block: a line, or so much of a text that parts of it are held out together. */
enum { ITEM_FIRST = 1, ITEM_LAST = 2, ITEM_HELD = 4, ITEM_BLOCK = 8 };

typedef struct data_ref { /* where an item lies */
    uint64_t offset;
    uint32_t n; /* bytes */
    uint16_t file;
    uint8_t flags;
    uint8_t part; /* of a JSON line's text, which is cut (data_cut) anew each time */
} data_ref;

typedef struct data_file {
    char *path;
    data_kind kind;
    double weight, from, until;
    file_map map;
    struct stat st;
    data_stats stats;
} data_file;

typedef struct data_pool { /* items that are drawn in turn, in the order of an epoch */
    uint32_t *items, *perm;
    size_t n, next;
    uint64_t epoch, drawn; /* tokens */
    double weight, from, until;
} data_pool;

/* A tokenized item: one sequence, or two for a pair. */
typedef struct data_tokens {
    tok_ids ids[2];
    float *weights[2]; /* NULL: 1 everywhere */
    int n;
    bool continues; /* it may be cut and go on in the next row */
} data_tokens;
void data_tokens_free(data_tokens *t);

#define DATA_BLOCK_BYTES ((size_t)32 << 10) /* of a text, held out together */

struct data {
    data_opts o; /* sources: NULL */
    data_file *files;
    size_t n_files;
    data_ref *items;
    size_t n_items, cap_items;
    data_pool *pools;
    size_t n_pools;
    char digest[SHA256_HEX];
    double progress;

    /* the item being drawn: SIZE_MAX in pool when there is none */
    size_t carry_pool, carry_item, carry_at;
    data_tokens carry, one; /* carry's tokens, when carry_ready; data_item's */
    bool carry_ready;

    /* a step's rows */
    int32_t *ids, *target, *pos;
    float *weights;
    uint32_t *start, *item, *row_seq; /* row_seq[r]: first sequence of row r */
    size_t cap_tokens, cap_rows, n_tokens, n_seq, n_rows;
    uint32_t *part_start;
    /* data_item's */
    int32_t *one_target, *one_pos;
    float *one_weights;
    size_t one_cap, one_cap_pos, one_cap_weights;
    uint32_t one_start[3], one_item[2];
};

/* Texts stay as long as they are: neighbours are drawn one after the other, or nothing is drawn at all. */
static inline bool data_in_order(const data *d) { return d->o.order == DATA_AS_IS || !d->o.vocab; }

/* data_index.c: fills d->items from the files, and closes what it opened only in data_close. */
mote_status data_index(data *d, mote_error *err);
/* Takes the next part of at most one and a half times `most` bytes from the front of a text. */
str data_cut(str *rest, size_t most);
/* The bytes that a JSON line's text of n bytes is cut into, so that a part's number fits; 0: it is not cut. */
size_t data_line_part(const data *d, size_t n);
/* A hash of bytes that stays the same for ever: FNV-1a, stirred. */
uint64_t data_hash(const void *p, size_t n);

/* data_chat.c */
/* The conversation that a line of a chat file holds, NULL when it holds none; a new reference. */
json_t *data_messages(const json_t *line);
/* The two conversations of a preference. False when the line holds none. */
bool data_pair(const json_t *line, json_t **chosen, json_t **rejected);
/* What kind a line of JSON is; DATA_AUTO: none of them. */
data_kind data_line_kind(const json_t *line);
/* Item i as tokens. E_NOT_FOUND: nothing in it to learn from. */
mote_status data_tokenize(const data *d, size_t item, data_tokens *out, mote_error *err);
/* "FILE:LINE" of a byte of a file. */
const char *data_place(char out[256], const data_file *f, uint64_t offset);

#endif
