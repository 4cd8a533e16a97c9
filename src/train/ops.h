/* ops.h: the ops of the models' graphs. Each stands in one file with its way back beside it (op_*.c), its formula above
 * it, and a row in tests/unit/train_ops_test.c that checks it against finite differences.
 *
 * All take and give vars of the tape (see tape.h: a NULL operand gives NULL). Weights are vars over a parameter's own memory.
 * n: rows, that is tokens. */
#ifndef MOTE_TRAIN_OPS_H
#define MOTE_TRAIN_OPS_H

#include "tensor/tensor.h"
#include "train/tape.h"

/* Tokens of several sequences, one after the other: rows [start[i], start[i + 1]) are sequence i. Nothing is seen across
 * a border: neither by attention nor by convolutions nor by recurrences. That is how short documents are packed together. */
typedef struct ad_seqs {
    size_t n, n_seq;
    const uint32_t *start; /* [n_seq + 1] */
    const int32_t *pos;    /* [n] position of each token in its sequence */
} ad_seqs;

/* ---- op_linear.c ---- */
/* y[n, m] = x[n, k] w[m, k]ᵀ */
var *ad_linear(tape *t, var *x, var *w);
var *ad_add_row(tape *t, var *x, var *b); /* y = x + b[1, cols] in every row */
/* y[n, m] = x[n, k] w[k, m] */
var *ad_matmul(tape *t, var *x, var *w);
/* y[n, cols] = rows ids[i] of table[vocab, cols] */
var *ad_embed(tape *t, var *table, const int32_t *ids, size_t n);
/* rows idx[i] of x; the gradient adds up where a row is taken twice */
var *ad_rows(tape *t, var *x, const int32_t *idx, size_t n);
/* one above the other: [Σ rows, cols] */
var *ad_stack(tape *t, var *const *xs, size_t n);

/* ---- op_norm.c ---- */
/* Groups of `width` columns of a row are normed by themselves (heads). w, b: [1, width], or [1, cols] with weights of its own for each group;
 * NULL: 1 and 0. b only with w. */
var *ad_rms_norm(tape *t, var *x, var *w, var *b, size_t width, float eps);
var *ad_layer_norm(tape *t, var *x, var *w, var *b, size_t width, float eps);

/* ---- op_act.c ---- */
/* All of act_fn; ACT_SWIGLU_OAI only with `up`. */
var *ad_act(tape *t, act_fn f, var *x);
var *ad_act_mul(tape *t, act_fn f, var *gate, var *up); /* f(gate) · up */
var *ad_add(tape *t, var *a, var *b);
var *ad_add_scaled(tape *t, var *a, var *b, float by); /* a + by · b */
var *ad_scale(tape *t, var *x, float by);
var *ad_mul(tape *t, var *a, var *b);                  /* elementwise */
var *ad_mul_row(tape *t, var *x, var *s);              /* each row times s[1, cols] */
var *ad_mul_col(tape *t, var *x, var *s);              /* row i times s[i, 0] */
var *ad_softcap(tape *t, var *x, float cap);           /* cap · tanh(x / cap) */
var *ad_clamp(tape *t, var *x, float by);              /* between -by and by */
var *ad_cols(tape *t, var *x, size_t from, size_t n);  /* a copy of columns [from, from + n) */
var *ad_join(tape *t, var *const *xs, size_t n);       /* side by side */

/* ---- op_rope.c ---- */
/* Rotates the first n_rot columns of each head of `dim` columns; cs[n, n_rot/2, 2]: cosine and sine of each row (with YaRN's and
 * other scalings in them). halves: pairs (i, i + n_rot/2), else (2i, 2i + 1). */
var *ad_rope(tape *t, var *x, size_t dim, size_t n_rot, const float *cs, bool halves);

/* ---- op_attention.c ---- */
typedef struct ad_attn {
    size_t n_head, n_head_kv, dim_k, dim_v;
    float scale, softcap;   /* softcap 0: none */
    size_t window;          /* keys seen, the own one included; 0: all */
    bool causal;
    const float *alibi;     /* [n_head] or NULL */
    var *sinks;             /* [1, n_head] logits that take a share of the softmax, or NULL */
    const attn_blocks *blocks; /* each query reads some blocks of its sequence (tensor.h), causal; NULL: all. No gradient goes into the choice */
    var **lse;              /* [n, n_head] logarithms of the softmax's denominators come out there, or NULL */
} ad_attn;
/* q[n, n_head · dim_k], k[n, n_head_kv · dim_k], v[n, n_head_kv · dim_v] -> [n, n_head · dim_v]. Blockwise: never n × n.
 * Source: Dao et al. 2022 (FlashAttention), algorithms 1 and 4. */
var *ad_attention(tape *t, var *q, var *k, var *v, const ad_attn *o, const ad_seqs *s);

/* ---- op_linattn.c ---- */
/* Linear attention over the keys that have left a window (model/linattn.h): exponents eq[n, n_head · m], ek[n, n_head_kv · m] of features
 * φ(e) = [exp(e), exp(-e)], v[n, n_head_kv · dim_v] -> y = N / Z [n, n_head · dim_v] and lz = log Z [n, n_head] with
 * [N_i, Z_i] = Σ_{j ≤ i - window} φ(eq_i)·φ(ek_j) [v_j, 1]. Where there is no key yet, y is 0 and lz -1e9. Keys' exponents are kept within
 * ± clamp, and have no gradient beyond. */
typedef struct ad_linattn_shape {
    size_t n_head, n_head_kv, dim_v, window;
    float clamp;
} ad_linattn_shape;
var *ad_linattn(tape *t, var *eq, var *ek, var *v, const ad_linattn_shape *o, const ad_seqs *s, var **lz);

/* ---- op_conv.c ---- */
/* Causal depthwise convolution over each sequence: y[i, c] = Σ_j x[i - width + 1 + j, c] w[c, j] (+ b[c]). w: [cols, width]. */
var *ad_conv(tape *t, var *x, var *w, var *b, const ad_seqs *s);

/* ---- op_ssd.c ---- */
/* Mamba-2's recurrence (Dao and Gu 2024), head h of n_head with `dim` channels, group g = h · n_group / n_head, state S[dim, n_state]:
 *   S = exp(dt a_h) S + dt x ⊗ B_g;   y = S C_g + d_h x
 * x[n, n_head · dim], dt[n, n_head] (after softplus), a[1, n_head] (negative), b, c[n, n_group · n_state], d[1, n_head]. */
typedef struct ad_ssd_shape {
    size_t n_head, dim, n_group, n_state;
} ad_ssd_shape;
var *ad_ssd(tape *t, var *x, var *dt, var *a, var *b, var *c, var *d, const ad_ssd_shape *o, const ad_seqs *s);

/* ---- op_moe.c ---- */
/* Which experts a token goes to and with what weight. p[n, n_expert]: the router's logits. */
typedef struct ad_route_opts {
    size_t n_used;
    int gating;         /* model/arch.h's enum gating */
    bool norm;          /* the weights of the chosen sum to 1 */
    float scale;
    const float *bias;  /* [n_expert] added for the choice alone, or NULL */
} ad_route_opts;
typedef struct ad_route {
    int32_t *expert;    /* [n, n_used] */
    var *weight;        /* [n, n_used] */
    size_t *count;      /* [n_expert] tokens of each */
    int32_t *token;     /* [n · n_used] by expert: the tokens of expert 0, then of expert 1, … */
    int32_t *place;     /* [n · n_used] which of a token's choices that was */
} ad_route;
ad_route *ad_router(tape *t, var *p, const ad_route_opts *o);
/* y[token] = Σ weight · out row; out: rows in the order of route->token. */
var *ad_gather(tape *t, var *out, const ad_route *r, size_t n);

/* ---- op_loss.c: the head and its loss together, in chunks of rows: never rows × vocabulary at once ---- */
typedef struct ad_head {
    var *w;             /* [vocab, cols] */
    var *b;             /* [1, vocab] or NULL */
    float scale, softcap;
} ad_head;
/* Rows of logits that lie in memory at once. */
size_t ad_head_chunk(const ad_head *head, size_t n);
/* Σ w l / Σ w over rows, l = -log p(target); with `sum_weight` > 0: Σ w l / sum_weight (for accumulation over several
 * passes). Weights[n], or NULL: all 1. target < 0: the row does not count.
 * fused: the factor with which tape_back will reach this loss (then it must): its gradients are made on the way forward, in one visit of
 * each chunk of logits. 0: they are made going back, which computes the logits twice. */
typedef struct ad_targets {
    const int32_t *target;
    const float *weights;
    double sum_weight;
    float *losses;      /* [n] each row's own loss out, or NULL */
    float z_loss;       /* its factor on log² Z; 0: none */
    float fused;
} ad_targets;
var *ad_cross_entropy(tape *t, var *hidden, const ad_head *head, const ad_targets *o);

#endif
