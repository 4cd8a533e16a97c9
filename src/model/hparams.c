/* hparams.c: from the file's keys to checked hyperparameters. Every number is range-checked here, so that the
 * blocks may trust it. */
#include "model/arch.h"

#include <math.h>
#include <string.h>

enum { LAYERS_MAX = 1024, DIM_MAX = 1 << 20, VOCAB_MAX = 1 << 24, CTX_MAX = 1 << 30 };

static void key_of(const model *m, const char *key, char full[192]) {
    (void)snprintf(full, 192, "%s.%s", m->arch->name, key);
}

bool hp_has(const model *m, const char *key) {
    char full[192];
    key_of(m, key, full);
    return model_file_find(m->file, full) != NULL;
}

mote_status hp_u32(const model *m, const char *key, size_t *v, size_t otherwise, mote_error *err) {
    char full[192];
    uint32_t u = 0;
    key_of(m, key, full);
    if (!model_file_find(m->file, full)) {
        *v = otherwise;
        return MOTE_OK;
    }
    TRY(kv_get_u32(m->file, full, &u, 0, err));
    *v = u;
    return MOTE_OK;
}

mote_status hp_f32(const model *m, const char *key, float *v, float otherwise, mote_error *err) {
    char full[192];
    key_of(m, key, full);
    return kv_get_f32(m->file, full, v, otherwise, err);
}

mote_status hp_bool(const model *m, const char *key, bool *v, bool otherwise, mote_error *err) {
    char full[192];
    key_of(m, key, full);
    return kv_get_bool(m->file, full, v, otherwise, err);
}

mote_status hp_str(const model *m, const char *key, str *v, str otherwise, mote_error *err) {
    char full[192];
    key_of(m, key, full);
    return kv_get_str(m->file, full, v, otherwise, err);
}

mote_status hp_layer_u32(const model *m, const char *key, size_t il, size_t *v, size_t otherwise, mote_error *err) {
    char full[192];
    key_of(m, key, full);
    const kv *k = model_file_find(m->file, full);
    if (!k || k->type != KV_ARRAY) return hp_u32(m, key, v, otherwise, err);
    int64_t i;
    if (il >= k->count) FAIL(err, MOTE_E_FORMAT, "key '%s': %llu values, but layer %zu needs one", full, (unsigned long long)k->count, il);
    if (!kv_at_int(k, il, &i) || i < 0 || i > DIM_MAX) FAIL(err, MOTE_E_FORMAT, "key '%s': bad value for layer %zu", full, il);
    *v = (size_t)i;
    return MOTE_OK;
}

mote_status hp_swa_pattern(model *m, size_t period, bool dense_first, mote_error *err) {
    char full[192];
    key_of(m, "attention.sliding_window_pattern", full);
    const kv *k = model_file_find(m->file, full);
    bool listed = k && k->type == KV_ARRAY;
    if (!listed) TRY(hp_u32(m, "attention.sliding_window_pattern", &period, period, err));
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        size_t swa;
        if (listed) TRY(hp_layer_u32(m, "attention.sliding_window_pattern", il, &swa, 0, err));
        else swa = period == 0 || (dense_first ? il % period != 0 : il % period < period - 1);
        m->layers[il].swa = swa != 0;
    }
    return MOTE_OK;
}

mote_status hp_window(model *m, size_t window, size_t period, bool dense_first, float freq_base, mote_error *err) {
    hparams *h = &m->hp;
    TRY(hp_u32(m, "attention.sliding_window", &h->n_swa, window, err));
    if (h->n_swa == 0) return MOTE_OK;
    TRY(hp_f32(m, "rope.freq_base_swa", &h->rope_swa.freq_base, freq_base > 0 ? freq_base : h->rope_all.freq_base, err));
    if (!(h->rope_swa.freq_base > 0)) FAIL(err, MOTE_E_RANGE, "key '%s.rope.freq_base_swa' must be positive", m->arch->name);
    TRY(hp_swa_pattern(m, period, dense_first, err));
    for (size_t il = 0; il < h->n_layer; il++)
        if (m->layers[il].swa) m->layers[il].rope_conf = &h->rope_swa;
    return MOTE_OK;
}

mote_status hp_logit_scale(model *m, bool divide, float otherwise, mote_error *err) {
    float v;
    TRY(hp_f32(m, "logit_scale", &v, otherwise, err));
    if (!isfinite(v)) FAIL(err, MOTE_E_RANGE, "key '%s.logit_scale' is not a finite number", m->arch->name);
    m->hp.logit_scale = v == 0 ? 1 : divide ? 1 / v : v;
    return MOTE_OK;
}

static mote_status in_range(size_t v, size_t lo, size_t hi, const char *key, const model *m, mote_error *err) {
    if (v < lo || v > hi) FAIL(err, MOTE_E_RANGE, "key '%s.%s' is %zu, expected %zu to %zu", m->arch->name, key, v, lo, hi);
    return MOTE_OK;
}

static mote_status check_finite(float v, const char *key, const model *m, mote_error *err) {
    if (!isfinite(v)) FAIL(err, MOTE_E_RANGE, "key '%s.%s' is not a finite number", m->arch->name, key);
    return MOTE_OK;
}

/* A finite float key. */
static mote_status get_f32(const model *m, const char *key, float *v, float otherwise, mote_error *err) {
    TRY(hp_f32(m, key, v, otherwise, err));
    return check_finite(*v, key, m, err);
}

/* Where a zero in the file means "not set". */
static mote_status get_f32_or(const model *m, const char *key, float *v, float otherwise, mote_error *err) {
    TRY(get_f32(m, key, v, 0, err));
    if (*v == 0) *v = otherwise;
    return MOTE_OK;
}

static mote_status read_rope(model *m, mote_error *err) {
    hparams *h = &m->hp;
    rope_conf *r = &h->rope_all;
    float factor, yarn_log;
    str type;
    TRY(get_f32_or(m, "rope.freq_base", &r->freq_base, 10000.0f, err));
    TRY(get_f32(m, "rope.scaling.factor", &factor, 0, err));
    if (factor == 0) TRY(get_f32(m, "rope.scale_linear", &factor, 0, err));
    TRY(hp_str(m, "rope.scaling.type", &type, STR("linear"), err));
    TRY(hp_u32(m, "rope.scaling.original_context_length", &r->n_ctx_orig, h->n_ctx_train, err));
    TRY(get_f32_or(m, "rope.scaling.attn_factor", &r->attn_factor, 1, err));
    TRY(get_f32(m, "rope.scaling.yarn_ext_factor", &r->ext_factor, -1, err));
    TRY(get_f32_or(m, "rope.scaling.yarn_beta_fast", &r->beta_fast, 32, err));
    TRY(get_f32_or(m, "rope.scaling.yarn_beta_slow", &r->beta_slow, 1, err));
    TRY(get_f32(m, "rope.scaling.yarn_log_multiplier", &yarn_log, 0, err));
    if (m->opts.rope_freq_base > 0) r->freq_base = m->opts.rope_freq_base;
    r->freq_scale = factor > 0 ? 1 / factor : 1;
    if (m->opts.rope_freq_scale > 0) r->freq_scale = m->opts.rope_freq_scale;
    bool yarn = str_is(type, "yarn"), none = str_is(type, "none");
    if (m->opts.rope_scaling) {
        none = m->opts.rope_scaling == 1;
        yarn = m->opts.rope_scaling == 3;
    }
    if (none) r->freq_scale = 1;
    if (r->ext_factor < 0) r->ext_factor = yarn ? 1 : 0;
    if (r->freq_base <= 0 || r->freq_scale <= 0) FAIL(err, MOTE_E_RANGE, "rope frequencies must be positive");
    if (r->ext_factor != 0 && r->freq_scale < 1) {
        /* YaRN (Peng et al. 2023, §3.4) scales attention by 0.1 ln s + 1, which fwd's tables apply; DeepSeek's
         * mscale_all_dim divides it out again. */
        float s = 1 / r->freq_scale;
        if (yarn_log != 0) r->attn_factor /= 0.1f * yarn_log * logf(s) + 1;
    }
    return MOTE_OK;
}

static mote_status read_experts(model *m, mote_error *err) {
    hparams *h = &m->hp;
    size_t g;
    TRY(hp_u32(m, "expert_count", &h->n_expert, 0, err));
    TRY(hp_layer_u32(m, "expert_used_count", 0, &h->n_expert_used, 0, err));
    TRY(hp_layer_u32(m, "expert_feed_forward_length", 0, &h->n_ff_exp, 0, err));
    TRY(hp_u32(m, "expert_group_count", &h->n_expert_groups, 0, err));
    TRY(hp_u32(m, "expert_group_used_count", &h->n_group_used, 0, err));
    TRY(hp_u32(m, "expert_gating_func", &g, 0, err));
    h->expert_norm = m->arch->expert_norm;
    TRY(get_f32_or(m, "expert_weights_scale", &h->expert_scale, 1, err));
    TRY(in_range(h->n_expert, 0, EXPERTS_MAX, "expert_count", m, err));
    TRY(in_range(g, 0, GATE_SOFTMAX_TOPK, "expert_gating_func", m, err));
    h->gating = g ? (gating)g : m->arch->gating ? m->arch->gating : GATE_SOFTMAX;
    if (h->n_expert == 0) { /* other numbers of experts mean nothing then, and size nothing */
        h->n_expert_used = h->n_ff_exp = h->n_expert_groups = 0;
        return MOTE_OK;
    }
    TRY(in_range(h->n_expert_used, 1, h->n_expert, "expert_used_count", m, err));
    if (h->n_expert_groups > 1) {
        if (h->n_expert % h->n_expert_groups) FAIL(err, MOTE_E_RANGE, "%zu experts do not divide into %zu groups", h->n_expert, h->n_expert_groups);
        TRY(in_range(h->n_group_used, 1, h->n_expert_groups, "expert_group_used_count", m, err));
    }
    return MOTE_OK;
}

static mote_status read_special(model *m, mote_error *err) {
    hparams *h = &m->hp;
    const struct {
        const char *key;
        size_t *v;
    } sizes[] = {
        {"ssm.conv_kernel", &h->d_conv}, {"ssm.inner_size", &h->d_inner}, {"ssm.state_size", &h->d_state},
        {"ssm.time_step_rank", &h->dt_rank}, {"ssm.group_count", &h->n_group}, {"shortconv.l_cache", &h->shortconv_l},
        {"attention.q_lora_rank", &h->q_lora}, {"attention.kv_lora_rank", &h->kv_lora},
        {"attention.key_length_mla", &h->dim_k_mla}, {"attention.value_length_mla", &h->dim_v_mla},
        {"kda.head_dim", &h->kda_dim}, {"wkv.head_size", &h->wkv_head}, {"attention.decay_lora_rank", &h->lora_decay},
        {"attention.iclr_lora_rank", &h->lora_iclr}, {"attention.value_residual_mix_lora_rank", &h->lora_value},
        {"attention.gate_lora_rank", &h->lora_gate},
    };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        TRY(hp_u32(m, sizes[i].key, sizes[i].v, 0, err));
        TRY(in_range(*sizes[i].v, 0, DIM_MAX, sizes[i].key, m, err));
    }
    return hp_bool(m, "ssm.dt_b_c_rms", &h->dt_b_c_rms, false, err);
}

static mote_status read_scales(model *m, mote_error *err) {
    hparams *h = &m->hp;
    const char *eps_key = h->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    TRY(get_f32(m, eps_key, &h->eps, 1e-5f, err));
    if (h->eps < 0) FAIL(err, MOTE_E_RANGE, "key '%s.%s' is negative", m->arch->name, eps_key);
    TRY(get_f32_or(m, "residual_scale", &h->residual_scale, 1, err));
    TRY(get_f32_or(m, "embedding_scale", &h->embd_scale, 1, err));
    h->logit_scale = 1; /* its key means different things: each arch that has it reads it in setup */
    TRY(get_f32(m, "attention.scale", &h->attn_scale, 0, err));
    TRY(get_f32(m, "attention.clamp_kqv", &h->clamp_qkv, 0, err));
    TRY(get_f32(m, "attention.max_alibi_bias", &h->alibi_max, 0, err));
    return MOTE_OK;
}

static mote_status read_layers(model *m, mote_error *err) {
    hparams *h = &m->hp;
    for (size_t il = 0; il < h->n_layer; il++) {
        layer *l = &m->layers[il];
        l->index = il;
        l->kv_index = SIZE_MAX;
        l->rope = true;
        l->rope_conf = &h->rope_all;
        TRY(hp_layer_u32(m, "attention.head_count", il, &l->n_head, 0, err));
        TRY(hp_layer_u32(m, "attention.head_count_kv", il, &l->n_head_kv, l->n_head, err));
        TRY(hp_layer_u32(m, "feed_forward_length", il, &l->n_ff, 0, err));
        TRY(in_range(l->n_head, 0, 4096, "attention.head_count", m, err));
        TRY(in_range(l->n_head_kv, 0, l->n_head, "attention.head_count_kv", m, err));
        if (l->n_head_kv && l->n_head % l->n_head_kv)
            FAIL(err, MOTE_E_RANGE, "layer %zu: %zu query heads do not divide among %zu key/value heads", il, l->n_head, l->n_head_kv);
        size_t per_head = l->n_head ? h->n_embd / l->n_head : 0;
        TRY(hp_u32(m, "attention.key_length", &l->dim_k, per_head, err));
        TRY(hp_u32(m, "attention.value_length", &l->dim_v, per_head, err));
        TRY(in_range(l->dim_k, l->n_head ? 1 : 0, 1 << 16, "attention.key_length", m, err));
        TRY(in_range(l->dim_v, l->n_head ? 1 : 0, 1 << 16, "attention.value_length", m, err));
        if (l->dim_k > h->rope_all.n_rot) h->rope_all.n_rot = l->dim_k;
    }
    TRY(hp_u32(m, "rope.dimension_count", &h->rope_all.n_rot, h->rope_all.n_rot, err));
    if (h->rope_all.n_rot % 2) FAIL(err, MOTE_E_RANGE, "key '%s.rope.dimension_count' is odd", m->arch->name);
    h->rope_swa = h->rope_all;
    return MOTE_OK;
}

/* Which layers see their past in another way than by softmax. The list also lies in the file as a tensor: programs that do
 * not know the key refuse a file for a tensor that they do not know, where they would run it as something else. */
static mote_status read_kinds(model *m, mote_error *err) {
    hparams *h = &m->hp;
    if (!hp_has(m, "attention.kind")) return MOTE_OK;
    for (size_t il = 0; il < h->n_layer; il++) {
        size_t kind;
        TRY(hp_layer_u32(m, "attention.kind", il, &kind, ATTN_SOFTMAX, err));
        TRY(in_range(kind, 0, ATTN_KINDS - 1, "attention.kind", m, err));
        m->layers[il].kind = (attn_kind)kind;
    }
    TRY(hp_u32(m, "attention.block.size", &h->blocks.size, ATTN_BLOCK_STEP, err));
    TRY(hp_u32(m, "attention.block.window", &h->blocks.window, 1, err));
    TRY(hp_u32(m, "attention.block.top", &h->blocks.top, 1, err));
    TRY(in_range(h->blocks.size, ATTN_BLOCK_STEP, 1 << 16, "attention.block.size", m, err));
    TRY(in_range(h->blocks.window, 1, CTX_MAX, "attention.block.window", m, err));
    TRY(in_range(h->blocks.top, 0, ATTN_TOP_MAX, "attention.block.top", m, err));
    if (h->blocks.size % ATTN_BLOCK_STEP) FAIL(err, MOTE_E_RANGE, "key '%s.attention.block.size' is %zu, no multiple of %d", m->arch->name, h->blocks.size, ATTN_BLOCK_STEP);
    TRY(hp_u32(m, "attention.linear.window", &h->linear_window, 0, err));
    return in_range(h->linear_window, 0, CTX_MAX, "attention.linear.window", m, err);
}

mote_status hparams_read(model *m, mote_error *err) {
    hparams *h = &m->hp;
    const arch *a = m->arch;
    size_t v;
    h->norm = a->norm;
    h->rope = a->rope;
    h->parallel = a->parallel;
    TRY(hp_u32(m, "block_count", &h->n_layer, 0, err));
    TRY(hp_u32(m, "nextn_predict_layers", &h->n_layer_skipped, 0, err));
    if (h->n_layer_skipped >= h->n_layer) h->n_layer_skipped = 0;
    h->n_layer -= h->n_layer_skipped;
    TRY(hp_u32(m, "embedding_length", &h->n_embd, 0, err));
    TRY(hp_u32(m, "context_length", &h->n_ctx_train, 0, err));
    TRY(in_range(h->n_layer, 1, LAYERS_MAX, "block_count", m, err));
    TRY(in_range(h->n_embd, 1, DIM_MAX, "embedding_length", m, err));
    TRY(in_range(h->n_ctx_train, 1, CTX_MAX, "context_length", m, err));
    TRY(hp_bool(m, "attention.causal", &h->causal, !a->encoder, err));
    TRY(hp_u32(m, "pooling_type", &v, 0, err));
    h->pooling = v <= POOL_RANK ? (pooling)v : POOL_NONE; /* 2^32-1 is written for "unspecified" */
    const tensor_info *embd = model_file_find_tensor(m->file, "token_embd.weight");
    if (!embd) FAIL(err, MOTE_E_FORMAT, "tensor 'token_embd.weight' is missing");
    if (embd->ne[1] < 1 || embd->ne[1] > VOCAB_MAX || embd->ne[2] != 1 || embd->ne[3] != 1)
        FAIL(err, MOTE_E_RANGE, "tensor 'token_embd.weight' has %llu rows", (unsigned long long)embd->ne[1]);
    h->n_vocab = (size_t)embd->ne[1];
    const tensor_info *parts[MODEL_FILE_PARTS_MAX];
    for (size_t i = 1, n = model_file_parts(m->file, parts); i < n; i++) { /* checked as matrices later */
        if (parts[i]->ne[1] > VOCAB_MAX - h->n_vocab) FAIL(err, MOTE_E_RANGE, "tensor '%.*s' has %llu rows", STR_ARG(parts[i]->name), (unsigned long long)parts[i]->ne[1]);
        h->n_vocab += (size_t)parts[i]->ne[1];
    }
    m->layers = ARENA_NEW_N(&m->mem, layer, h->n_layer);
    if (!m->layers) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu layers", h->n_layer);
    TRY(read_scales(m, err));
    TRY(read_layers(m, err));
    TRY(read_rope(m, err));
    size_t rot_swa = h->rope_all.n_rot;
    TRY(hp_u32(m, "rope.dimension_count_swa", &rot_swa, rot_swa, err));
    h->rope_swa = h->rope_all;
    h->rope_swa.n_rot = rot_swa;
    TRY(hp_u32(m, "attention.sliding_window", &v, 0, err));
    TRY(in_range(v, 0, CTX_MAX, "attention.sliding_window", m, err));
    h->n_swa = v;
    TRY(read_experts(m, err));
    TRY(read_special(m, err));
    if (a->setup) TRY(a->setup(m, err));
    return read_kinds(m, err);
}
