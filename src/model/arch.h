/* arch.h: how architectures are declared, inside src/model.
 *
 * A model is a row of layers; a layer is: norm → mixer(s) → residual → norm → feed-forward → residual.
 * Mixers (attention, MLA, Mamba, gated delta net, …) and feed-forwards (dense, experts) are `blocks`, one file
 * each. An architecture is one small file in arch/ that says, mostly by data, which blocks its layers have and
 * how their details are set, and one row in archs.def.
 *
 * Loading order: hparams from the file's keys → arch->setup (adjusts hparams, plans each layer) → every tensor is
 * bound to its role → each block's `bind` checks the shapes it needs and marks what it uses → a tensor that nobody
 * uses is an error, so no file is run half-understood. */
#ifndef MOTE_MODEL_ARCH_H
#define MOTE_MODEL_ARCH_H

#include "model/model.h"
#include "tensor/tensor.h"

/* ---- roles ---- */
typedef enum role {
#define ROLE(id, name, kind, scope) R_##id,
#include "model/roles.def"
#undef ROLE
    R_COUNT
} role;

/* A bound tensor. Owned by the model; weights' data are views of the file. */
typedef struct slot {
    const tensor_info *info; /* NULL when the file has no such tensor */
    weight *mat;             /* kind MAT */
    float *vec;              /* kind VEC: all elements as f32 */
    float *bias;             /* ".bias", n_bias elements */
    float *bias_scaled;      /* bias times the residual scale, where that is not 1 */
    float *scale;            /* ".scale": 1, or one per expert */
    size_t n, n_bias, n_scale; /* elements of vec, bias, scale */
    uint64_t ne[TENSOR_DIMS_MAX];
    bool used;
} slot;

/* ---- hyperparameters ---- */
enum { EXPERTS_MAX = 1024 };
typedef enum rope_kind { ROPE_NONE, ROPE_NORM /* pairs (2i, 2i+1) */, ROPE_NEOX /* pairs (i, i + n/2) */ } rope_kind;
typedef enum gating { GATE_SOFTMAX = 1, GATE_SIGMOID = 2, GATE_SOFTMAX_TOPK = 3 /* softmax over the chosen */ } gating;

/* One set of rotation frequencies (a model has at most two: for all layers and for windowed ones). */
typedef struct rope_conf {
    size_t n_rot;
    float freq_base, freq_scale;
    float ext_factor, attn_factor, beta_fast, beta_slow; /* YaRN */
    size_t n_ctx_orig;
    const float *factors, *factors_long; /* [n_rot/2] divisors or NULL; _long when the context exceeds n_ctx_orig */
} rope_conf;

typedef struct hparams {
    size_t n_layer, n_layer_skipped /* multi-token prediction layers at the end, not run */;
    size_t n_embd, n_vocab, n_ctx_train;
    norm_kind norm;
    float eps;
    rope_kind rope;
    rope_conf rope_all, rope_swa;
    float embd_scale;     /* token embeddings are multiplied by it; 1 */
    float residual_scale; /* block outputs, before they are added; 1 */
    float logit_scale;    /* logits are multiplied by it; 1 */
    float attn_scale;     /* 0: 1/sqrt(dim_k) */
    float attn_softcap, final_softcap; /* 0 = none */
    float clamp_qkv;      /* 0 = none */
    float alibi_max;      /* 0 = none */
    float attn_temp_scale;       /* q is multiplied by 1 + scale·log(floor(pos/length) + 1); 0 = none */
    size_t attn_temp_length;
    size_t n_swa;         /* sliding window of windowed layers; 0 = none */
    attn_blocks blocks;   /* of layers of kind ATTN_BLOCKS */
    size_t linear_window; /* keys that layers of kind ATTN_LINEAR see exactly, the own one included; 0 = none */
    bool parallel;        /* mixer and feed-forward read the same input */
    bool causal;
    pooling pooling;
    /* experts */
    size_t n_expert, n_expert_used, n_ff_exp, n_expert_groups, n_group_used;
    gating gating;
    bool expert_norm;     /* weights of the chosen experts sum to 1 */
    float expert_scale;   /* their multiplier; 1 */
    /* state space models, convolutions */
    size_t d_conv, d_inner, d_state, dt_rank, n_group;
    bool dt_b_c_rms;
    size_t shortconv_l;   /* kernel width of lfm2's convolution */
    /* multi-head latent attention */
    size_t q_lora, kv_lora, dim_k_mla, dim_v_mla;
    size_t kda_dim;       /* head size of Kimi delta attention */
    /* RWKV-7: sizes of the low-rank adaptations, head size */
    size_t wkv_head, lora_decay, lora_iclr, lora_value, lora_gate;
    size_t n_carry;       /* floats per token that a layer leaves for later ones (fwd.carry) */
} hparams;

/* ---- layers ---- */
struct block_ops;
/* How an attention layer sees what lies before it. A file's ARCH.attention.kind[i] holds these numbers. */
typedef enum attn_kind {
    ATTN_SOFTMAX, /* all keys, or a window of them */
    ATTN_LINEAR,  /* keys behind the window are summed up in a state: linattn.h */
    ATTN_BLOCKS,  /* a few blocks of keys: tensor.h's attn_blocks */
    ATTN_KINDS
} attn_kind;

typedef enum qk_norm { QKN_NONE, QKN_HEAD /* each head by itself */, QKN_ALL /* all heads as one row */ } qk_norm;

/* A block's place in its layer: `which` below. */
enum { PLACE_MIXER, PLACE_MIXER_2, PLACE_FFN, PLACES };

typedef struct layer {
    size_t index;
    /* attention geometry */
    size_t n_head, n_head_kv, dim_k, dim_v, n_ff;
    bool swa;         /* only a window of keys */
    attn_kind kind;
    bool rope;        /* false: no positional rotation in this layer */
    /* what it is made of; NULL = nothing there. Two mixers run side by side on the same input and are summed. */
    const struct block_ops *mixer[2], *ffn;
    const rope_conf *rope_conf;
    slot slots[R_COUNT];
    /* decided at bind */
    bool wide_scores;     /* attention's scores are computed in f32 on every path */
    size_t kv_index;      /* which KV cache, SIZE_MAX = none */
    size_t state_offset[PLACES], state_bytes[PLACES]; /* recurrent state of each block inside a sequence's state */
    void *priv[PLACES];   /* a block's own precomputed data, in the model's arena */
} layer;

/* An extra head (extra.c). */
typedef struct extra_head {
    size_t layer, offset;
    float accuracy;
    const float *norm; /* [n_embd]; NULL: it reads what the Medusa head before it has made */
    slot mat;          /* W [n_embd, n_embd] and its bias */
    slot token;        /* V [n_embd, n_embd] of a Medusa head */
    const float *gate; /* [n_embd + 2], or NULL */
} extra_head;

/* ---- architectures ---- */
typedef struct arch {
    const char *name;     /* general.architecture */
    norm_kind norm;
    rope_kind rope;
    act_fn act;           /* of the feed-forward */
    qk_norm qk_norm;
    bool qk_norm_after_rope;
    norm_kind qk_norm_kind; /* NORM_NONE: the same as norm */
    bool parallel;        /* mixer and feed-forward side by side */
    bool norm_bare;       /* layer norms without weights (OLMo) */
    bool post_norm_is_ffn_norm; /* the file calls the norm before the feed-forward post_attention_norm */
    /* Tensors that a file may carry and the family's definition leaves out: */
    bool attn_unscaled;   /* ".scale" of the fused attn_qkv */
    bool attn_out_unbiased, output_unbiased; /* ".bias" of attn_output, of output */
    bool ffn_scaled, moe_scaled; /* ".scale" tensors of the feed-forward, of the experts count */
    bool attn_gate;       /* attn_q holds [q, gate] per head; output · sigmoid(gate) */
    gating gating;        /* default when the file has no expert_gating_func (0: softmax) */
    bool expert_norm;     /* the weights of the chosen experts are made to sum to 1 */
    bool moe_input_raw;   /* the router reads the layer's input, before the norm (smallthinker) */
    bool encoder;
    const struct block_ops *mixer; /* default mixer of every layer; NULL: attention */
    /* Adjusts hparams and layers after the general keys were read; NULL when the table says it all. */
    mote_status (*setup)(struct model *m, mote_error *err);
    /* Called when every tensor is in its slot and nothing has been checked: for files that call a tensor by another
     * role's name, or hold one that does not count. NULL: nothing. */
    void (*bound)(struct model *m);
} arch;

struct model {
    model_file *file;
    const arch *arch;
    hparams hp;
    layer *layers;
    slot slots[R_COUNT];     /* G roles */
    const struct kern_table *kern;
    arena mem;               /* vectors, names, weights */
    weight **weights;        /* all MAT tensors, for packing and freeing */
    size_t n_weights;
    weight_packer *packer;   /* packs them when it pays: forward.c */
    struct model_use {       /* by passes so far */
        bool answered;       /* a result was wanted */
        size_t n_tokens;
    } *use;
    struct heads *heads_file; /* whose matrices the extra heads multiply with until they are packed; owned */
    extra_head *exits, *ahead;
    size_t n_exits, n_ahead;
    size_t n_few;            /* so many leading rows of the output matrix are asked first */
    size_t n_likely;         /* tokens that guesses are among: … */
    const int32_t *likely;   /* … these, ascending; NULL: the first */
    slot likely_head;        /* with `likely`: their rows of the output matrix */
    size_t n_kv;             /* layers with a KV cache */
    size_t state_bytes;      /* recurrent state of one sequence */
    model_info info;
    model_opts opts;
};

const arch *arch_find(str name);
/* Fills m->hp and m->layers from the file's keys, then runs the architecture's setup. */
mote_status hparams_read(model *m, mote_error *err);

/* Keys under the architecture's prefix ("llama.block_count": key "block_count"). Absent: the default. */
mote_status hp_u32(const model *m, const char *key, size_t *v, size_t otherwise, mote_error *err);
mote_status hp_f32(const model *m, const char *key, float *v, float otherwise, mote_error *err);
mote_status hp_bool(const model *m, const char *key, bool *v, bool otherwise, mote_error *err);
mote_status hp_str(const model *m, const char *key, str *v, str otherwise, mote_error *err);
/* A number, or an array with one number per layer: element `il`. */
mote_status hp_layer_u32(const model *m, const char *key, size_t il, size_t *v, size_t otherwise, mote_error *err);
/* Whether the key exists at all. */
bool hp_has(const model *m, const char *key);
/* The layout of windowed layers from the file: n_swa (default `window` when the key is absent; 0: no windows), which
 * layers are windowed, and their own rotation frequencies (rope.freq_base_swa, default freq_base). */
mote_status hp_window(model *m, size_t window, size_t period, bool dense_first, float freq_base, mote_error *err);
/* logit_scale, times or divided. */
mote_status hp_logit_scale(model *m, bool divide, float otherwise, mote_error *err);
/* Marks windowed layers: from attention.sliding_window_pattern as an array, or every layer but each
 * `period`-th (the last of each group; dense_first: the first) is windowed; period 0 marks all. */
mote_status hp_swa_pattern(model *m, size_t period, bool dense_first, mote_error *err);

/* Binding, for use in block bind functions: the slot must exist (or may be absent when !required) with exactly
 * this shape; marks it used. n_mat: experts, else 1. A failing shape names the tensor and both shapes. */
mote_status bind_mat(layer *l, role r, size_t cols, size_t rows, size_t n_mat, bool required, mote_error *err);
mote_status bind_vec(layer *l, role r, size_t n, bool required, mote_error *err);
/* A ".bias" that stands alone (exp_probs_b, ssm_dt): slots[r].bias. */
mote_status bind_bias(layer *l, role r, size_t n, bool required, mote_error *err);
/* The same for tensors of the whole model. */
mote_status bind_model_mat(model *m, role r, size_t cols, size_t rows, bool required, mote_error *err);
mote_status bind_model_vec(model *m, role r, size_t n, bool required, mote_error *err);
static inline bool has(const layer *l, role r) { return l->slots[r].info != NULL; }
/* A norm made of a VEC slot: kind NORM_NONE when the slot is absent. */
norm layer_norm_of(const model *m, const layer *l, role r);

/* ---- one forward pass, seen by one thread ---- */
typedef struct fwd {
    team t;
    const model *m;
    state *s;
    const model_batch *b;
    size_t n;                /* rows (tokens) in this pass */
    float *x;                /* [n, n_embd] the residual stream */
    const int32_t *pos;      /* [n] */
    const float *rope_cs[2]; /* [n, n_rot/2, 2] cosine and sine for rope_all, rope_swa */
    bump mem;                /* blocks' buffers; every thread bumps identically */
    float *carry;            /* [n, n_carry] lives as long as the pass: RWKV-7's first values */
    float *router;           /* [n, n_expert] from a block's `before`, or NULL */
} fwd;

/* Where a block's result goes: y[n, n_embd] = scale · result, or added. */
typedef struct sink {
    float *y;
    size_t ld;
    float scale;
    bool add;
} sink;

typedef struct block_ops {
    const char *name;
    /* Checks shapes, fills l->kv_index / state_bytes[which] / priv[which]. which: its place. */
    mote_status (*bind)(model *m, layer *l, int which, mote_error *err);
    /* Floats of fwd.mem that forward takes for n rows. */
    size_t (*mem_floats)(const model *m, const layer *l, size_t n);
    /* in: what to read, with its norm (not yet applied). Ends with a barrier. */
    void (*forward)(fwd *f, const layer *l, int which, const linear_in *in, const sink *out);
    /* Called at a layer's start, before its mixers, with the residual stream in fwd.x: for routers that read it
     * there. NULL: nothing. Takes its memory from fwd.mem (counted in mem_floats); it is released at the layer's end. */
    void (*before)(fwd *f, const layer *l);
    /* Sets one sequence's recurrent state to its beginning; NULL when that is zero bytes. */
    void (*state_init)(const model *m, const layer *l, int which, void *state);
} block_ops;

/* The blocks. */
extern const block_ops block_attn, block_mla, block_ffn, block_moe, block_gdn, block_kda;
extern const block_ops block_mamba, block_mamba2, block_plamo2, block_shortconv;
extern const block_ops block_rwkv7_time, block_rwkv7_channel;

/* Keys that a layer's softmax sees at most, the own one included; 0: all. */
static inline size_t layer_window(const model *m, const layer *l) {
    return l->kind == ATTN_LINEAR ? m->hp.linear_window : l->kind == ATTN_SOFTMAX && l->swa ? m->hp.n_swa : 0;
}

/* Helpers for blocks. */
/* An output through a MAT slot with its ".scale" and ".bias". */
linear_out slot_out(const slot *s, float *y, size_t ld);
/* The same into a sink, whose scale (1 or the residual scale) multiplies the bias too. */
linear_out slot_sink(const slot *s, const sink *o);
/* Multiplies a slot's bias by `by` once, at bind (for feed-forward biases, which lie under the weight's scale). */
void slot_fold_bias(slot *s, float by);
/* The KV cache of this layer for a sequence; its recurrent state. */
const kv_layer *fwd_kv(const fwd *f, const layer *l, size_t seq);
void *fwd_state(const fwd *f, const layer *l, int which, size_t seq);
/* Rotates one head vector (dim_k floats) of batch row `row` in place. */
void fwd_rope(const fwd *f, const layer *l, size_t row, float *head);
/* Splits n items over the threads. */
static inline void fwd_share(const fwd *f, size_t n, size_t *from, size_t *to) { pool_share(n, 1, f->t.ith, f->t.nth, from, to); }
/* Materialises `in` as f32 rows: dst[n, cols] = act/norm applied. Barrier. For blocks that need their input twice. */
void fwd_input(fwd *f, const linear_in *in, float *dst, size_t cols);

#endif
