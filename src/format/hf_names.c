/* hf_names.c: tensor names of transformers to those of GGUF.
 *
 * Names are relative: hf.c has taken off the root ("model.", "transformer.", "gpt_neox.", "backbone.", "bert.").
 * A family's own rules (hf_archs.c) come first, then the common ones below. */
#include "format/hf_int.h"

#include <stdio.h>

#define L "blk.#."

static const hf_rule common[] = {
    /* input and output */
    {"embed_tokens", "token_embd", NULL},
    {"wte", "token_embd", NULL},
    {"word_embeddings", "token_embd", NULL},
    {"tok_embeddings", "token_embd", NULL},
    {"embed_in", "token_embd", NULL},
    {"embeddings", "token_embd", NULL},
    {"embedding", "token_embd", NULL},
    {"token_embeddings", "token_embd", NULL},
    {"wpe", "position_embd", NULL},
    {"word_embeddings_layernorm", "token_embd_norm", NULL},
    {"lm_head", "output", NULL},
    {"embed_out", "output", NULL},
    {"output", "output", NULL},
    {"norm", "output_norm", NULL},
    {"ln_f", "output_norm", NULL},
    {"norm_f", "output_norm", NULL},
    {"final_layernorm", "output_norm", NULL},
    {"final_layer_norm", "output_norm", NULL},
    /* blocks as in LLaMA */
    {"layers.#.input_layernorm", L "attn_norm", NULL},
    {"layers.#.post_attention_layernorm", L "ffn_norm", NULL},
    {"layers.#.self_attn.q_proj", L "attn_q", NULL},
    {"layers.#.self_attn.k_proj", L "attn_k", NULL},
    {"layers.#.self_attn.v_proj", L "attn_v", NULL},
    {"layers.#.self_attn.o_proj", L "attn_output", NULL},
    {"layers.#.self_attn.dense", L "attn_output", NULL},
    {"layers.#.self_attn.out_proj", L "attn_output", NULL},
    {"layers.#.self_attn.q_norm", L "attn_q_norm", NULL},
    {"layers.#.self_attn.k_norm", L "attn_k_norm", NULL},
    {"layers.#.self_attn.q_layernorm", L "attn_q_norm", NULL},
    {"layers.#.self_attn.k_layernorm", L "attn_k_norm", NULL},
    {"layers.#.self_attn.qkv_proj", L "attn_qkv", NULL},
    {"layers.#.self_attn.sinks", L "attn_sinks.weight", NULL},
    {"layers.#.mlp.gate_proj", L "ffn_gate", NULL},
    {"layers.#.mlp.up_proj", L "ffn_up", NULL},
    {"layers.#.mlp.down_proj", L "ffn_down", NULL},
    {"layers.#.mlp.c_fc", L "ffn_up", NULL},
    {"layers.#.mlp.c_proj", L "ffn_down", NULL},
    {"layers.#.mlp.fc1", L "ffn_up", NULL},
    {"layers.#.mlp.fc2", L "ffn_down", NULL},
    {"layers.#.mlp.gate_up_proj", L "ffn_up", NULL},
    {"layers.#.feed_forward.w1", L "ffn_gate", NULL},
    {"layers.#.feed_forward.w2", L "ffn_down", NULL},
    {"layers.#.feed_forward.w3", L "ffn_up", NULL},
    {"layers.#.feed_forward.gate_proj", L "ffn_gate", NULL},
    {"layers.#.feed_forward.up_proj", L "ffn_up", NULL},
    {"layers.#.feed_forward.down_proj", L "ffn_down", NULL},
    /* mixtures of experts */
    {"layers.#.mlp.gate", L "ffn_gate_inp", NULL},
    {"layers.#.mlp.gate.e_score_correction_bias", L "exp_probs_b.bias", NULL},
    {"layers.#.mlp.experts.@.gate_proj", L "ffn_gate_exps", NULL},
    {"layers.#.mlp.experts.@.up_proj", L "ffn_up_exps", NULL},
    {"layers.#.mlp.experts.@.down_proj", L "ffn_down_exps", NULL},
    {"layers.#.mlp.shared_expert.gate_proj", L "ffn_gate_shexp", NULL},
    {"layers.#.mlp.shared_expert.up_proj", L "ffn_up_shexp", NULL},
    {"layers.#.mlp.shared_expert.down_proj", L "ffn_down_shexp", NULL},
    {"layers.#.mlp.shared_experts.gate_proj", L "ffn_gate_shexp", NULL},
    {"layers.#.mlp.shared_experts.up_proj", L "ffn_up_shexp", NULL},
    {"layers.#.mlp.shared_experts.down_proj", L "ffn_down_shexp", NULL},
    {"layers.#.mlp.shared_expert_gate", L "ffn_gate_inp_shexp", hf_op_as_vector},
    {"layers.#.block_sparse_moe.gate", L "ffn_gate_inp", NULL},
    {"layers.#.block_sparse_moe.experts.@.w1", L "ffn_gate_exps", NULL},
    {"layers.#.block_sparse_moe.experts.@.w2", L "ffn_down_exps", NULL},
    {"layers.#.block_sparse_moe.experts.@.w3", L "ffn_up_exps", NULL},
    /* blocks as in GPT-2, BLOOM, Falcon and GPT-NeoX */
    {"h.#.ln_1", L "attn_norm", NULL},
    {"h.#.ln_2", L "ffn_norm", NULL},
    {"h.#.attn.c_attn", L "attn_qkv", NULL},
    {"h.#.attn.c_proj", L "attn_output", NULL},
    {"h.#.mlp.c_fc", L "ffn_up", NULL},
    {"h.#.mlp.c_proj", L "ffn_down", NULL},
    {"h.#.input_layernorm", L "attn_norm", NULL},
    {"h.#.post_attention_layernorm", L "ffn_norm", NULL},
    {"h.#.ln_mlp", L "attn_norm", NULL},
    {"h.#.ln_attn", L "attn_norm_2", NULL},
    {"h.#.self_attention.query_key_value", L "attn_qkv", NULL},
    {"h.#.self_attention.dense", L "attn_output", NULL},
    {"h.#.mlp.dense_h_to_4h", L "ffn_up", NULL},
    {"h.#.mlp.dense_4h_to_h", L "ffn_down", NULL},
    {"layers.#.attention.query_key_value", L "attn_qkv", NULL},
    {"layers.#.attention.dense", L "attn_output", NULL},
    {"layers.#.mlp.dense_h_to_4h", L "ffn_up", NULL},
    {"layers.#.mlp.dense_4h_to_h", L "ffn_down", NULL},
    /* state space models */
    {"layers.#.norm", L "attn_norm", NULL},
    {"layers.#.mixer.in_proj", L "ssm_in", NULL},
    {"layers.#.mixer.conv1d", L "ssm_conv1d", hf_op_squeeze},
    {"layers.#.mixer.x_proj", L "ssm_x", NULL},
    {"layers.#.mixer.dt_proj", L "ssm_dt", NULL},
    {"layers.#.mixer.dt_bias", L "ssm_dt.bias", NULL},
    {"layers.#.mixer.A_log", L "ssm_a", hf_op_neg_exp},
    {"layers.#.mixer.D", L "ssm_d", NULL},
    {"layers.#.mixer.out_proj", L "ssm_out", NULL},
    /* buffers that transformers computes anew */
    {"layers.#.self_attn.rotary_emb.inv_freq", NULL, NULL},
    {"layers.#.attention.rotary_emb.inv_freq", NULL, NULL},
    {"layers.#.attention.bias", NULL, NULL},
    {"layers.#.attention.masked_bias", NULL, NULL},
    {"h.#.attn.masked_bias", NULL, NULL},
    {"h.#.attn.bias", NULL, NULL},
    {"rotary_emb.inv_freq", NULL, NULL},
    {NULL, NULL, NULL},
};

typedef struct match {
    int layer, expert;
    size_t expert_at, expert_n; /* where the expert's number stands in the name */
    str tail;                   /* what the pattern left: "", ".weight" or ".bias" */
} match;

static size_t take_number(str name, size_t at, int *v) {
    size_t n = 0;
    int x = 0;
    while (at + n < name.n && n < 6 && name.p[at + n] >= '0' && name.p[at + n] <= '9')
        x = x * 10 + (name.p[at + n++] - '0');
    *v = x;
    return n;
}

static bool matches(const char *pattern, str name, match *m) {
    size_t at = 0;
    *m = (match){-1, -1, 0, 0, {NULL, 0}};
    for (; *pattern; pattern++) {
        if (*pattern == '#' || *pattern == '@') {
            int v;
            size_t n = take_number(name, at, &v);
            if (n == 0) return false;
            if (*pattern == '#') m->layer = v;
            else {
                m->expert = v;
                m->expert_at = at;
                m->expert_n = n;
            }
            at += n;
        } else if (at < name.n && name.p[at] == *pattern) at++;
        else return false;
    }
    m->tail = str_sub(name, at, name.n - at);
    return m->tail.n == 0 || str_is(m->tail, ".weight") || str_is(m->tail, ".bias");
}

/* How many tensors a pattern with '@' stands for: experts, or (StableLM 2 12B) the norms of single heads. */
static uint32_t stacked(const hf *h, const char *to) {
    return strstr(to, "attn_q") ? h->n_head : strstr(to, "attn_k") ? h->n_head_kv : h->n_expert;
}

/* Tensors of one kind, one behind the other: [expert][…]. Called for number 0. */
static mote_status stack(hf *h, const hf_tensor *first, const match *m, const char *to, mote_error *err) {
    const st_tensor *t = first->t;
    uint32_t n = stacked(h, to);
    if (n == 0 || t->n_dims < 1 || t->n_dims > 3)
        FAIL(err, MOTE_E_FORMAT, "config.json names no experts but there is '%.*s'", STR_ARG(t->name));
    size_t total;
    void *p;
    if (!ckd_mul_size(&total, t->size, n) || n > 65536) FAIL(err, MOTE_E_LIMIT, "%u of '%s' are too many", n, to);
    TRY(model_file_own(h->f, total, &p, err));
    for (uint32_t e = 0; e < n; e++) {
        char name[256];
        str after = str_sub(first->name, m->expert_at + m->expert_n, first->name.n - m->expert_at - m->expert_n);
        (void)snprintf(name, sizeof name, "%.*s%u%.*s", (int)m->expert_at, first->name.p, e, (int)after.n, after.p);
        const st_tensor *x = hf_find(h, name);
        if (!x) FAIL(err, MOTE_E_NOT_FOUND, "tensor '%s' is missing: %u expected", name, n);
        if (x->size != t->size || !str_eq(x->dtype, t->dtype))
            FAIL(err, MOTE_E_MISMATCH, "tensor '%s' differs in size or type from the others'", name);
        memcpy((unsigned char *)p + e * t->size, x->data, t->size);
    }
    st_tensor all = *t;
    all.n_dims = t->n_dims + 1;
    all.shape[0] = n;
    for (int d = 0; d < t->n_dims; d++) all.shape[d + 1] = t->shape[d];
    all.data = p;
    all.size = total;
    return hf_take(h, &all, to, m->layer, err);
}

/* What the family's flags ask of a tensor that has no op of its own. */
static hf_op *flag_op(const hf *h, const char *to) {
    if (h->arch->flags & HF_PERMUTE) {
        if (strstr(to, ".attn_q.")) return hf_op_permute_q;
        if (strstr(to, ".attn_k.")) return hf_op_permute_k;
    }
    if ((h->arch->flags & HF_NORM_ONE) && str_ends(str_of(to), STR("norm.weight"))) return hf_op_add_one;
    return hf_take;
}

static mote_status apply(hf *h, const hf_rule *r, const hf_tensor *src, const match *m, mote_error *err) {
    char to[160];
    if (!r->to || (m->layer >= 0 && (uint32_t)m->layer >= h->n_layer)) return MOTE_OK; /* unused, or beyond (MTP) */
    if ((h->arch->flags & HF_NO_HEAD) && strcmp(r->to, "output") == 0) return MOTE_OK;
    (void)snprintf(to, sizeof to, "%s%.*s", r->to, (int)m->tail.n, m->tail.p);
    if (m->expert >= 0) {
        if (m->expert > 0) {
            if ((uint32_t)m->expert >= stacked(h, to))
                FAIL(err, MOTE_E_MISMATCH, "tensor '%.*s': there should be %u of them", STR_ARG(src->t->name),
                     stacked(h, to));
            return MOTE_OK;
        }
        return stack(h, src, m, to, err);
    }
    return (r->op ? r->op : flag_op(h, to))(h, src->t, to, m->layer, err);
}

mote_status hf_map_tensor(hf *h, const hf_tensor *src, mote_error *err) {
    const hf_rule *const lists[] = {h->arch->rules, common};
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        for (const hf_rule *r = lists[i]; r && r->from; r++) {
            match m;
            if (matches(r->from, src->name, &m)) return apply(h, r, src, &m, err);
        }
    FAIL(err, MOTE_E_UNSUPPORTED, "no place for tensor '%.*s' in architecture %s", STR_ARG(src->t->name),
         h->arch->gguf);
}

/* to ("blk.#.ffn_gate|blk.#.ffn_up") names `base` ("blk.3.ffn_up"). */
static bool leads_to(const char *to, str base, int *layer) {
    for (const char *part = to; part; part = strchr(part, '|') ? strchr(part, '|') + 1 : NULL) {
        char pattern[160];
        match m;
        const char *bar = strchr(part, '|');
        (void)snprintf(pattern, sizeof pattern, "%.*s", (int)(bar ? bar - part : (ptrdiff_t)strlen(part)), part);
        if (str_ends(str_of(pattern), STR(".weight"))) pattern[strlen(pattern) - 7] = 0;
        if (matches(pattern, base, &m) && m.tail.n == 0) {
            *layer = m.layer;
            return true;
        }
    }
    return false;
}

static const char *usual_root(const char *from) {
    static const struct {
        const char *start, *root;
    } roots[] = {{"lm_head", ""}, {"embed_out", ""}, {"h.#", "transformer."}, {"wte", "transformer."}, {"wpe", "transformer."},
                 {"blocks.#", "transformer."}, {"layers.#.attention.query_key_value", "gpt_neox."}, {"layers.#.mixer", "backbone."}};
    for (size_t i = 0; i < COUNT_OF(roots); i++)
        if (str_starts(str_of(from), str_of(roots[i].start))) return roots[i].root;
    return "model.";
}

bool hf_name_for(const hf *h, str gguf, char *name, size_t cap) {
    const hf_rule *const lists[] = {h->arch->rules, common};
    if (!str_ends(gguf, STR(".weight"))) return false;
    str base = str_sub(gguf, 0, gguf.n - 7);
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        for (const hf_rule *r = lists[i]; r && r->from; r++) {
            int layer = -1;
            const char *hash = strchr(r->from, '#');
            if (!r->to || strchr(r->from, '@') || !leads_to(r->to, base, &layer) || (hash != NULL) != (layer >= 0)) continue;
            int n = hash ? snprintf(name, cap, "%s%.*s%d%s.weight", usual_root(r->from), (int)(hash - r->from), r->from, layer, hash + 1)
                         : snprintf(name, cap, "%s%s.weight", usual_root(r->from), r->from);
            return n > 0 && (size_t)n < cap;
        }
    return false;
}
