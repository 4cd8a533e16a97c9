/* origin.h: the way back from a model file's tensors to those of the Hugging Face folder it was opened from.
 *
 * Opening a folder renames, permutes, turns, splits, stacks and shifts what is in its files (hf_names.c, hf_archs.def).
 * Training gives gradients, weights and adapters in GGUF's shapes; others want them under the folder's own names. The way
 * back is not written down a second time: the family's rules are run on made-up tensors whose values are their own element
 * numbers, so that each element of the result tells where it came from, whatever rule made it. Values that a rule changes
 * (1 + w, -exp(w), a factor) are found out by three more runs, on zeros, ones and twos.
 *
 * Thread: one at a time. */
#ifndef MOTE_FORMAT_ORIGIN_H
#define MOTE_FORMAT_ORIGIN_H

#include "format/format.h"

typedef struct origin origin;
/* dir: a Hugging Face folder; E_UNSUPPORTED when it is none. The folder's files stay mapped. */
mote_status origin_open(origin **out, const char *dir, mote_error *err);
/* Of any model file. A GGUF file has no sources, but its family's rules can be asked (origin_trace, origin_name), as far as
 * they need no more of config.json than the numbers of layers, heads and experts. */
mote_status origin_open_like(origin **out, const model_file *f, mote_error *err);
void origin_close(origin **o);
size_t origin_n_sources(const origin *o); /* the text model's tensors, in the files' order */
const st_tensor *origin_source(const origin *o, size_t i);

/* Where the elements of one tensor come from. The n_src tensors of the folder that it is made of are thought of as lying
 * one behind the other: tensor k is elements [first[k], first[k + 1]). */
typedef struct origin_map {
    size_t n;                    /* elements of the model file's tensor */
    size_t n_src;                /* 0: made from config.json alone (rope_freqs) */
    const st_tensor *const *src;
    const uint64_t *first;       /* [n_src + 1] */
    uint64_t from;               /* at NULL: element i is source element from + i */
    const uint64_t *at;          /* [n] or NULL */
    /* Value of the model file's element = add + scale · s, or with minus_exp = -exp(s). */
    bool minus_exp;
    float scale, add;
    const float *scales;         /* [n] in place of scale, or NULL */
} origin_map;

/* t: of the model file that model_file_open made of the same folder. MXFP4 blocks: E_UNSUPPORTED. */
mote_status origin_map_open(origin_map **out, origin *o, const tensor_info *t, mote_error *err);
void origin_map_close(origin_map **m);

/* Is the tensor a matrix of whole rows and columns of one source matrix? rows[r] and cols[c] say which; turned: row r is the
 * source's column. rows: [elements / ne0], cols: [ne0], the caller's. False when it is not. */
bool origin_map_matrix(const origin_map *m, const tensor_info *t, size_t *src, uint64_t *rows, uint64_t *cols, bool *turned);

/* What the rules would make of a tensor named and shaped like t (name, n_dims and shape count; dtype "F32"): fn is called
 * for each tensor that comes of it. */
typedef mote_status origin_traced_fn(void *ctx, const tensor_info *made, const origin_map *m, mote_error *err);
mote_status origin_trace(origin *o, const st_tensor *t, origin_traced_fn *fn, void *ctx, mote_error *err);
/* A name that transformers may give to what becomes the matrix `gguf` ("blk.0.attn_q.weight"): the first of the rules that
 * leads there. False when none does. */
bool origin_name(const origin *o, str gguf, char *name, size_t cap);

/* Values in GGUF's shape of one tensor. */
typedef struct origin_value {
    const tensor_info *t;
    const float *x;      /* all elements */
    bool source_numbers; /* x holds the source's numbers already (t->form undone), only their places are GGUF's */
} origin_value;

enum {
    ORIGIN_WEIGHTS = 0,  /* what no value covers is copied from the folder */
    ORIGIN_GRADIENTS = 1 /* of a loss by x: put through the chain rule of the value's form, added up where one source element
                          * went to several places; what no value covers is left out */
};
/* A safetensors file under the folder's own names. dtype: "F32", "BF16", "F16", or NULL: each tensor's own. */
mote_status origin_write(origin *o, const origin_value *v, size_t n, int kind, const char *dtype, const char *path,
                         mote_error *err);

#endif
