/* hf_int.h: the inside of the Hugging Face reader, shared by hf*.c. */
#ifndef MOTE_FORMAT_HF_INT_H
#define MOTE_FORMAT_HF_INT_H

#include "format/format_int.h"

typedef struct hf hf;

/* A tensor of the folder. name is relative: without the root prefix ("model.", "transformer.", …). */
typedef struct hf_tensor {
    str name;
    const st_tensor *t;
} hf_tensor;

/* Makes the GGUF tensor(s) `to` from t. layer is the block number or -1. */
typedef mote_status hf_op(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err);

/* A tensor name and what becomes of it. In `from`, '#' is a block number and '@' an expert's; a trailing
 * ".weight" or ".bias" may follow what the pattern names and is kept. `to` NULL: the tensor is not used.
 * op NULL: taken as it is (or changed as the family's flags say). A list ends with from NULL. */
typedef struct hf_rule {
    const char *from, *to;
    hf_op *op;
} hf_rule;

/* A config.json entry and the GGUF key (below the architecture's prefix) it becomes. `from`: names tried in
 * order, separated by commas; a dot reaches into an object. A list becomes an array. Absent: no key. */
typedef struct hf_key {
    const char *key;
    kv_type type; /* KV_U32, KV_F32, KV_BOOL */
    const char *from;
} hf_key;

enum {
    HF_PERMUTE = 1,  /* rotary halves interleaved: rows of Q and K are reordered to pairs */
    HF_NORM_ONE = 2, /* norm weights are stored less one */
    HF_NO_HEAD = 4,  /* always tied: an lm_head that is there is not taken */
    HF_NO_ROPE = 8,  /* no rotary embedding */
    HF_OWN_KEYS = 16 /* the common keys do not apply (mamba) */
};

typedef struct hf_arch {
    const char *classes; /* of transformers, separated by spaces */
    const char *gguf;    /* general.architecture */
    unsigned flags;
    const hf_rule *rules; /* tried before the common ones; NULL: none */
    const hf_key *keys;   /* besides the common ones; NULL: none */
    mote_status (*extra)(hf *h, mote_error *err); /* what a table cannot say; NULL: nothing */
} hf_arch;

struct hf {
    model_file *f; /* being built */
    const char *dir;
    json_t *root, *cfg; /* config.json, and its text part (often the same) */
    const hf_arch *arch;
    hf_tensor *src;
    size_t n_src;
    name_index src_index;
    size_t cap_kv, cap_tensors;
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_expert, n_vocab, n_rot;
    int flags;
    /* Stands in for a tensor of the folder wherever an op looks one up (origin.c); NULL: nothing does. */
    const st_tensor *(*stand_in)(void *ctx, const st_tensor *t);
    void *stand_in_ctx;
};

/* hf.c: config, keys and weight files of a folder; h->f is new, its tensors are not made yet. Also after a failure:
 * hf_drop, unless h->f is handed on. */
mote_status hf_open_sources(hf *h, const char *dir, int flags, mote_error *err);
void hf_drop(hf *h);

/* config.json: the first of `names` that is there and not null; NULL when none is. */
const json_t *hf_get(const hf *h, const char *names);
/* As numbers; *v stays when absent. Wrong type or range: an error that names it. */
mote_status hf_get_u32(const hf *h, const char *names, uint32_t *v, mote_error *err);
mote_status hf_get_f32(const hf *h, const char *names, double *v, mote_error *err);
bool hf_get_flag(const hf *h, const char *names, bool otherwise);
str hf_get_str(const hf *h, const char *names);
/* layer_types[i] equals type (false when there is no such list). */
bool hf_layer_is(const hf *h, uint32_t i, const char *type);

/* Keys. `key` is put behind the architecture's name unless it begins with "general." or "tokenizer.". */
mote_status hf_put_kv(hf *h, const char *key, kv k, mote_error *err);
mote_status hf_put_u32(hf *h, const char *key, uint32_t v, mote_error *err);
mote_status hf_put_f32(hf *h, const char *key, double v, mote_error *err);
mote_status hf_put_bool(hf *h, const char *key, bool v, mote_error *err);
mote_status hf_put_str(hf *h, const char *key, str v, mote_error *err);
mote_status hf_put_u32s(hf *h, const char *key, const uint32_t *v, size_t n, mote_error *err);
mote_status hf_put_bools(hf *h, const char *key, const bool *v, size_t n, mote_error *err);
mote_status hf_put_table(hf *h, const hf_key *keys, mote_error *err);
/* hf_keys.c: the common keys, rotary embedding and its scaling (also the rope_freqs tensor). */
mote_status hf_put_common(hf *h, mote_error *err);

/* hf_tensor.c: a new GGUF tensor; `to` may hold '#' for the layer. Data follow with one of the functions
 * below. shape is given outermost first, as in safetensors. */
mote_status hf_add(hf *h, const st_tensor *t, const char *to, int layer, quant_type type, int n_dims,
                   const uint64_t *shape, tensor_info **out, mote_error *err);
/* t as it is: a view, or an owned float32 copy where GGUF wants float32 (vectors, norms, routers). */
mote_status hf_take(hf *h, const st_tensor *t, const char *to, int layer, mote_error *err);
/* The same with another shape of the same number of elements. */
mote_status hf_take_shaped(hf *h, const st_tensor *t, const char *to, int layer, int n_dims, const uint64_t *shape,
                           mote_error *err);
/* Rows (elements of the first dimension) n_out of them, row i being row map(ctx, i) of t. */
mote_status hf_take_rows(hf *h, const st_tensor *t, const char *to, int layer, size_t n_out,
                         size_t (*map)(const void *ctx, size_t i), const void *ctx, mote_error *err);
/* n float32 values made by the caller into *v (owned by the model file). */
mote_status hf_make_f32(hf *h, const st_tensor *t, const char *to, int layer, int n_dims, const uint64_t *shape,
                        float **v, mote_error *err);
/* How the values of the tensor made last follow from the file's. */
void hf_form(hf *h, value_form form);
/* All of t as float32 in v[elements]. */
mote_status hf_read_f32(const st_tensor *t, float *v, mote_error *err);
uint64_t hf_elements(const st_tensor *t);
/* Same, converted when the file's type is not one of GGUF's. */
mote_status hf_quant_type(const st_tensor *t, quant_type *type, mote_error *err);
/* A tensor of the folder by its relative name, NULL when absent. */
const st_tensor *hf_find(const hf *h, const char *name);

/* Ops for the tables. */
hf_op hf_op_permute_q, hf_op_permute_k, hf_op_add_one, hf_op_neg_exp, hf_op_neg_exp_column, hf_op_column,
    hf_op_squeeze, hf_op_transpose, hf_op_halves, hf_op_experts, hf_op_qkv_per_head, hf_op_qkv_groups,
    hf_op_qkv_groups_split, hf_op_as_vector, hf_op_bias;

/* hf_names.c: finds the rule for a relative tensor name and applies it. */
mote_status hf_map_tensor(hf *h, const hf_tensor *src, mote_error *err);
/* The other way: a name, with the root that is usual for it, whose rule leads to the tensor `gguf`. False: no rule does. */
bool hf_name_for(const hf *h, str gguf, char *name, size_t cap);
/* hf.c: the name below the language model's root; {NULL,0} for what is not its part. */
str hf_relative_name(str name);
/* hf_archs.c: the row for a config; an error that lists nothing but the name when there is none. */
mote_status hf_find_arch(const json_t *root, const json_t *cfg, const hf_arch **out, mote_error *err);
/* The first row that gives this general.architecture. */
mote_status hf_find_gguf_arch(str name, const hf_arch **out, mote_error *err);
/* hf_tokenizer.c: tokenizer.ggml.* keys from tokenizer.json and its companions; without them a model that
 * has no vocabulary. */
mote_status hf_put_tokenizer(hf *h, mote_error *err);
/* A file of the folder into memory that lives as long as the model file; {NULL,0} when it is not there. */
mote_status hf_read_text(hf *h, const char *name, str *text, mote_error *err);
/* config.json may hold bare NaN and Infinity, as Python writes them: they become null. */
mote_status hf_parse_json(hf *h, str text, const char *name, json_t **out, mote_error *err);

#endif
