/* net.h: an opened model as a graph that can be trained: the same architectures, slots and layers as src/model runs, in f32.
 *
 * Parameters are the tensors of the file, decoded. The source may be a GGUF file or a Hugging Face folder; a parameter knows both names.
 * Where the two differ in more than name (Gemma's norms are stored less one, Mamba's A as log(-A)), the optimizer works on the source's
 * numbers, so that weight decay means what it means there (tensor_info.form, train_param.form). */
#ifndef MOTE_TRAIN_NET_H
#define MOTE_TRAIN_NET_H

#include "model/arch.h"
#include "train/ops.h"

typedef struct param {
    const tensor_info *info; /* name, shape, origin: of the opened file */
    var v;                   /* [rows, cols] as the graph uses it: rows = ne[1] · ne[2] · …, cols = ne[0] */
    bool trained;            /* v.wants: it gets a gradient */
    bool frozen;             /* its name says that it keeps its weights (net_opts.freeze); quantization-aware training rounds it all the same */
} param;

typedef struct net net;
struct net_pass;

/* Every product with a weight matrix goes through here: adapters, fake quantization and observers take its place.
 * mat: which expert's, else 0. Returns x Wᵀ (without bias), in whatever way. */
typedef var *net_linear_fn(void *ctx, tape *t, param *w, size_t mat, var *x);
/* Called with the input of every product, before it: calibration, distillation of feature maps. */
typedef void net_seen_fn(void *ctx, tape *t, const param *w, size_t mat, var *x);

/* Keys (after rotation) and values of layer il on their way into attention: a cache that rounds takes its place here. */
typedef var *net_kv_fn(void *ctx, tape *t, size_t il, bool value, var *x);

typedef struct net_opts {
    bool frozen;      /* no parameter is trained (a teacher; adapters) */
    bool checkpoint;  /* keep only each layer's input, compute it again going back */
    size_t n_ctx;     /* context that the model is trained for: chooses between two sets of rotation factors where there are two; 0: the
                         longest sequence of a pass */
    bool packed;      /* with frozen: quantized matrices of layers stay as they are and are decoded where they are used; their v.x is NULL */
    const char *freeze; /* regular expression: tensors whose names it matches are not trained (E_USAGE: it matches none, or all); NULL: none */
} net_opts;

/* m outlives the net. E_UNSUPPORTED: a block that cannot be trained, by name. */
mote_status net_open(net **out, const model *m, pool *p, const net_opts *o, mote_error *err);
void net_close(net **n);
const model *net_model(const net *n);
size_t net_n_params(const net *n);
param *net_param(net *n, size_t i);
param *net_find(net *n, const char *name); /* GGUF's name; NULL when absent */
void net_set_linear(net *n, net_linear_fn *fn, void *ctx); /* NULL: plain */
void net_set_seen(net *n, net_seen_fn *fn, void *ctx);
void net_set_kv(net *n, net_kv_fn *fn, void *ctx);
/* Zeroes all parameters' gradients. */
void net_zero_grads(net *n);
/* The plain product, for hooks. */
var *net_plain_linear(tape *t, param *w, size_t mat, var *x);

/* net_packed.c: x Wᵀ with matrix `mat` of a tensor in the file's format; W gets no gradient. */
var *net_packed_linear(tape *t, const tensor_info *info, size_t mat, var *x);

/* What a pass leaves behind, for losses on the inside. Arrays are of the tape. */
typedef struct net_inside {
    var **layers;      /* [n_layer + 1] the residual stream before layer i; the last: after all, before the final norm */
    var **q, **k, **v; /* [n_layer] after rotation, heads side by side; NULL where a layer has no attention */
    size_t from, until; /* run layers [from, until) alone; until 0: all. With from > 0, `x` is the stream that enters */
    var *x;
    const bool *skip;  /* [n_layer] such layers are passed by; NULL: none */
} net_inside;
/* A linear layer's attention by itself: q, k (turned) and v, heads side by side -> [n, n_head · dim_v]. maps: q[n_head · m, dim_k] and
 * k[n_head_kv · m, dim_k] with biases [1, heads · m] or NULL, gain[1, n_head]; o->window: the exact part (model/linattn.h). */
typedef struct net_maps {
    var *q, *q_bias, *k, *k_bias, *gain;
    size_t m;
} net_maps;
var *net_attend_linearly(tape *t, const net_maps *maps, var *const qkv[3], const ad_attn *o, const ad_seqs *s);
/* ids[s->n] -> the final norm's output [n, n_embd]. inside may be NULL. */
var *net_hidden(net *n, tape *t, const int32_t *ids, const ad_seqs *s, net_inside *inside);
/* The head: weights (tied or not), scale, softcap. */
ad_head net_head(net *n);

#endif
