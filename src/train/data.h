/* data.h: texts, chats and preferences as rows of tokens for training.
 *
 * A data set is a list of files, each split into items: a document or a part of a long text, a conversation, a pair of
 * answers. A step draws items until it has its rows of at most `n_ctx` tokens; short items share a row as
 * sequences with borders between them (ad_seqs), so nothing is padding and nothing is seen across a border.
 *
 * What a step holds depends on the files, the options and the cursor alone: not on threads and not on how many
 * processes share the work. Every process draws the whole step and takes its part, so that a run may go on with
 * another number of them, and a cursor is a few numbers.
 *
 * Files are data of strangers. A line that is too long, is not UTF-8 or JSON, or lacks what its kind needs is skipped
 * and counted (strict: refused, with file and line), and a text is cut into parts of bounded size, so that memory
 * stays bounded by the longest allowed line. A file that changes under us ends the run with MOTE_E_MISMATCH. */
#ifndef MOTE_TRAIN_DATA_H
#define MOTE_TRAIN_DATA_H

#include "chat/chat.h"
#include "token/token.h"
#include "train/ops.h"

typedef enum data_kind {
    DATA_AUTO,  /* by the first line: JSONL by its keys, else text */
    DATA_TEXT,  /* plain text; a line that is "<|endoftext|>" ends a document, and so does the file */
    DATA_JSONL, /* {"text": "…"}; lines of DATA_CHAT may stand between them, and the other way round */
    DATA_CHAT,  /* {"messages": [{"role", "content"}…]}, {"prompt", "completion"}, {"instruction", "input", "output"} or
                   {"conversations": [{"from", "value"}…]}: loss on what the assistant says, and on nothing else */
    DATA_PAIRS  /* {"prompt", "chosen", "rejected"}: texts or lists of messages; the prompt may stand in both lists */
} data_kind;

typedef struct data_source {
    const char *path;
    data_kind kind;
    double weight;     /* share of the tokens; 0 in all sources: every item once an epoch, all files in one heap */
    double from, until; /* in use while the run's progress (data_progress) is in [from, until); until 0: to the end */
} data_source;

typedef enum data_order {
    DATA_SHUFFLED, /* by seed and epoch */
    DATA_AS_IS,    /* the files' order, every epoch */
    DATA_EASY_FIRST /* the files' order, shuffled within sixteenths, in the first epoch; shuffled after it */
} data_order;

typedef enum data_split { DATA_ALL, DATA_TRAIN, DATA_HELD } data_split;

/* Zero means the default in brackets. Everything is copied but the vocabulary and template, which outlive the set. Without a vocabulary the
 * set has texts alone: data_item_text. */
typedef struct data_opts {
    const data_source *sources;
    size_t n_sources;
    const tok_vocab *vocab;
    const chat_template *tmpl; /* chats and pairs need it; else NULL */
    size_t n_ctx;              /* tokens of a row [512] */
    uint64_t seed;
    data_order order;
    data_split split;      /* with held_out > 0: which side */
    double held_out;       /* share of items, chosen by the hash of their bytes: equal items fall on the same side */
    size_t max_line_bytes; /* of a JSONL file [16 MiB] */
    size_t part_bytes;     /* a longer text is cut into parts of about so many bytes [two rows or so, 8 n_ctx, within 2 to 32 KiB: a step then
                              holds many documents; 32 KiB in the files' order and without a vocabulary, where JSON lines stay whole, too] */
    size_t max_items;      /* [2^31 - 1] */
    bool strict;           /* a bad line is an error */
    bool loss_on_all;      /* chats: on every token */
    bool no_pack;          /* a row holds one item (or part of one) */
    bool no_end;           /* no end-of-text token after a document */
    int32_t end_id;        /* that token; 0 or TOK_NONE: the vocabulary's <|endoftext|> or like, else its EOS */
    const log_sink *log;
} data_opts;

typedef struct data_stats { /* of a source, or of all */
    uint64_t bytes;
    size_t items;                      /* of this side of the split */
    size_t held_out;                   /* … of the other */
    size_t too_long, not_utf8, not_json, lacking, empty; /* lines and parts skipped; lacking: no text, no answer */
    char first_bad[256];               /* "FILE:LINE: why" of the first that was skipped, or "" */
    char sha256[SHA256_HEX];           /* of the file */
} data_stats;

typedef struct data data;
/* Reads all files once: counts, checks and hashes. E_NOT_FOUND: no file; E_FORMAT: strict and a bad line, or no item at all. */
mote_status data_open(data **out, const data_opts *o, mote_error *err);
void data_close(data **d);
data_stats data_get_stats(const data *d, size_t source); /* source ≥ n_sources: sums */
size_t data_n_items(const data *d);
data_kind data_source_kind(const data *d, size_t source); /* never DATA_AUTO */
/* One digest over the files' hashes and the options that matter: equal digests, equal steps. */
const char *data_digest(const data *d);
/* Names the first file whose size or time has changed since data_open: MOTE_E_MISMATCH. data_step calls it. */
mote_status data_check(const data *d, mote_error *err);

/* The rows of a step, or of a part of it. Memory is the set's, until the next data_step (parts: data_part) of it. */
typedef struct data_batch {
    ad_seqs seqs;          /* .n tokens, .n_seq sequences, in rows */
    const int32_t *ids;    /* [n] */
    const int32_t *target; /* [n] the token after each; -1: none, or no loss is wanted there */
    const float *weights;  /* [n] of the losses; 0 where target < 0 */
    const uint32_t *item;  /* [n_seq] which item, for data_item. Pairs: sequences 2i (chosen) and 2i + 1 (rejected) belong together */
    size_t n_rows;
    double sum_weight;     /* Σ weights of these rows */
} data_batch;
typedef struct data_step_info {
    data_batch mine;   /* this process's rows */
    double sum_weight; /* of all processes: the divisor of the mean loss (ad_targets.sum_weight) */
    size_t n_tokens;   /* of all processes */
    uint64_t epoch;    /* of the first source */
} data_step_info;
/* Draws the next n_rows rows; of them, process `rank` of `world` gets rows [n_rows · rank / world, n_rows · (rank + 1) / world). */
mote_status data_step(data *d, size_t n_rows, int rank, int world, data_step_info *out, mote_error *err);
/* Rows [from, from + n) of the step's `mine`, as a batch of its own: for accumulation. Valid until the next data_part. */
mote_status data_part(data *d, size_t from, size_t n, data_batch *out, mote_error *err);
/* The run's progress in [0, 1], for sources with from and until. Call it before data_step. */
void data_progress(data *d, double share);
/* One item by itself (cut at n_ctx tokens), without moving the cursor. Valid until the next data_item. */
mote_status data_item(data *d, size_t item, data_batch *out, mote_error *err);
/* Its text: of a document, or the conversation as the template renders it (pairs: the chosen one; without a template what is said,
 * line by line). Appends to out. */
mote_status data_item_text(data *d, size_t item, buf *out, mote_error *err);
/* Its bytes in its file: a line of JSON, or a part of a text. */
str data_item_bytes(const data *d, size_t item, data_kind *kind, const char **path);
/* From now on only these items, in this order (before the order of data_opts is applied), all in one heap. The cursor starts again. */
mote_status data_select(data *d, const uint32_t *items, size_t n, mote_error *err);

/* Where the set stands between two steps, as a small JSON object, and back to it: steps then are those that would have
 * come. E_MISMATCH: of other files or options. */
json_t *data_cursor(const data *d); /* NULL: out of memory */
mote_status data_seek(data *d, const json_t *cursor, mote_error *err);

/* ---- parts that stand alone ---- */
/* A conversation (array of messages) as tokens; weight[i] is 1 where token i is said by the assistant (its end-of-turn token
 * included). Template text alone becomes control tokens. E_NOT_FOUND: nobody answers. weights may be NULL. */
mote_status data_chat_ids(const tok_vocab *v, const chat_template *t, json_t *messages, tok_ids *ids, float **weights, mote_error *err);
/* The template of a model file, for its vocabulary. */
mote_status data_template(chat_template **out, const model_file *f, const tok_vocab *v, mote_error *err);

#endif
