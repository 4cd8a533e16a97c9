/* hf_keys.c: config.json to GGUF metadata: access to the config, the keys most families share, and rotary
 * embedding with its scaling, in the old form (rope_theta, rope_scaling) and the new one (rope_parameters). */
#include "format/hf_int.h"

#include <math.h>
#include <stdio.h>

static const json_t *member(const json_t *o, str path) {
    while (o) {
        size_t dot = str_find(path, STR("."), 0);
        char name[96];
        str head = dot == SIZE_MAX ? path : str_sub(path, 0, dot);
        if (head.n >= sizeof name) return NULL;
        memcpy(name, head.p, head.n);
        name[head.n] = 0;
        o = json_object_get(o, name);
        if (dot == SIZE_MAX) break;
        path = str_sub(path, dot + 1, path.n - dot - 1);
    }
    return json_is_null(o) ? NULL : o;
}

static const json_t *find_in(const json_t *o, const char *names) {
    str all = str_of(names);
    for (size_t at = 0; at <= all.n;) {
        size_t comma = str_find(all, STR(","), at);
        if (comma == SIZE_MAX) comma = all.n;
        const json_t *v = member(o, str_sub(all, at, comma - at));
        if (v) return v;
        at = comma + 1;
    }
    return NULL;
}

const json_t *hf_get(const hf *h, const char *names) {
    const json_t *v = find_in(h->cfg, names);
    return v || h->cfg == h->root ? v : find_in(h->root, names);
}

static mote_status as_u32(const json_t *v, const char *names, uint32_t *out, mote_error *err) {
    json_int_t i = json_is_integer(v) ? json_integer_value(v) : -1;
    if (json_is_real(v) && json_real_value(v) >= 0 && json_real_value(v) <= UINT32_MAX &&
        floor(json_real_value(v)) >= json_real_value(v))
        i = (json_int_t)json_real_value(v);
    if (i < 0 || i > UINT32_MAX)
        FAIL(err, MOTE_E_RANGE, "config.json: '%s' must be a whole number from 0 to 4294967295", names);
    *out = (uint32_t)i;
    return MOTE_OK;
}

mote_status hf_get_u32(const hf *h, const char *names, uint32_t *v, mote_error *err) {
    const json_t *j = hf_get(h, names);
    return j ? as_u32(j, names, v, err) : MOTE_OK;
}

mote_status hf_get_f32(const hf *h, const char *names, double *v, mote_error *err) {
    const json_t *j = hf_get(h, names);
    if (!j) return MOTE_OK;
    if (!json_is_number(j)) FAIL(err, MOTE_E_FORMAT, "config.json: '%s' must be a number", names);
    *v = json_number_value(j);
    return MOTE_OK;
}

bool hf_get_flag(const hf *h, const char *names, bool otherwise) {
    const json_t *j = hf_get(h, names);
    return json_is_boolean(j) ? json_is_true(j) : otherwise;
}

str hf_get_str(const hf *h, const char *names) {
    const json_t *j = hf_get(h, names);
    return json_is_string(j) ? (str){json_string_value(j), json_string_length(j)} : (str){NULL, 0};
}

bool hf_layer_is(const hf *h, uint32_t i, const char *type) {
    const json_t *v = json_array_get(hf_get(h, "layer_types,layers_block_type"), i);
    return json_is_string(v) && strcmp(json_string_value(v), type) == 0;
}

mote_status hf_put_kv(hf *h, const char *key, kv k, mote_error *err) {
    model_file *f = h->f;
    char name[160];
    bool whole = str_starts(str_of(key), STR("general.")) || str_starts(str_of(key), STR("tokenizer."));
    int n = snprintf(name, sizeof name, "%s%s%s", whole ? "" : h->arch->gguf, whole ? "" : ".", key);
    if (n < 0 || (size_t)n >= sizeof name) FAIL(err, MOTE_E_INTERNAL, "key '%s' is too long", key);
    kv *slot = NULL;
    for (size_t i = 0; i < f->n_kv; i++)
        if (str_is(f->kvs[i].key, name)) slot = &f->kvs[i];
    if (!slot) {
        TRY(mem_grow(&f->kvs, &h->cap_kv, f->n_kv + 1, sizeof *f->kvs, FORMAT_KV_MAX, err));
        slot = &f->kvs[f->n_kv];
        *slot = (kv){0};
        slot->key = (str){arena_dup(&f->mem, str_of(name)), (size_t)n};
        if (!slot->key.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
        f->n_kv++;
    }
    k.key = slot->key;
    if (k.type == KV_STRING) {
        k.s.p = arena_dup(&f->mem, k.s);
        if (!k.s.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    }
    *slot = k;
    return MOTE_OK;
}

mote_status hf_put_u32(hf *h, const char *key, uint32_t v, mote_error *err) {
    return hf_put_kv(h, key, (kv){.type = KV_U32, .i = v}, err);
}
mote_status hf_put_f32(hf *h, const char *key, double v, mote_error *err) {
    return hf_put_kv(h, key, (kv){.type = KV_F32, .f = (double)(float)v}, err);
}
mote_status hf_put_bool(hf *h, const char *key, bool v, mote_error *err) {
    return hf_put_kv(h, key, (kv){.type = KV_BOOL, .i = v}, err);
}
mote_status hf_put_str(hf *h, const char *key, str v, mote_error *err) {
    return hf_put_kv(h, key, (kv){.type = KV_STRING, .s = v}, err);
}

static mote_status put_elems(hf *h, const char *key, kv_type elem, const void *v, size_t n, size_t size,
                             mote_error *err) {
    unsigned char *copy = arena_alloc(&h->f->mem, n, size);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (n) memcpy(copy, v, n * size);
    return hf_put_kv(h, key, (kv){.type = KV_ARRAY, .elem = elem, .count = n, .elems = copy}, err);
}

mote_status hf_put_u32s(hf *h, const char *key, const uint32_t *v, size_t n, mote_error *err) {
    return put_elems(h, key, KV_I32, v, n, sizeof *v, err);
}
mote_status hf_put_bools(hf *h, const char *key, const bool *v, size_t n, mote_error *err) {
    return put_elems(h, key, KV_BOOL, v, n, sizeof *v, err);
}

static mote_status put_list(hf *h, const hf_key *k, const json_t *list, mote_error *err) {
    size_t n = json_array_size(list);
    if (n > FORMAT_STRINGS_MAX) FAIL(err, MOTE_E_LIMIT, "config.json: '%s' has too many elements", k->from);
    unsigned char *v = arena_alloc(&h->f->mem, n, 4);
    if (!v) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(list, i);
        if (k->type == KV_F32) {
            float x = (float)json_number_value(e);
            memcpy(v + 4 * i, &x, 4);
        } else {
            uint32_t x;
            TRY(as_u32(e, k->from, &x, err));
            memcpy(v + 4 * i, &x, 4);
        }
    }
    return hf_put_kv(h, k->key, (kv){.type = KV_ARRAY, .elem = k->type == KV_F32 ? KV_F32 : KV_I32, .count = n, .elems = v},
                     err);
}

mote_status hf_put_table(hf *h, const hf_key *keys, mote_error *err) {
    for (const hf_key *k = keys; k && k->key; k++) {
        const json_t *v = hf_get(h, k->from);
        uint32_t u;
        if (!v || (json_is_boolean(v) && k->type != KV_BOOL)) continue;
        if (json_is_array(v)) TRY(put_list(h, k, v, err));
        else if (k->type == KV_BOOL) TRY(hf_put_bool(h, k->key, json_is_true(v), err));
        else if (k->type == KV_F32) {
            double x = 0;
            TRY(hf_get_f32(h, k->from, &x, err));
            TRY(hf_put_f32(h, k->key, x, err));
        } else {
            TRY(as_u32(v, k->from, &u, err));
            TRY(hf_put_u32(h, k->key, u, err));
        }
    }
    return MOTE_OK;
}

static const hf_key common[] = {
    {"context_length", KV_U32, "max_position_embeddings,n_ctx,n_positions,max_length,max_sequence_length,max_seq_len,"
                               "seq_length,model_max_length"},
    {"feed_forward_length", KV_U32, "intermediate_size,n_inner,hidden_dim,ffn_hidden_size"},
    {"attention.head_count", KV_U32, "num_attention_heads,n_head,n_heads"},
    {"attention.head_count_kv", KV_U32, "num_key_value_heads,n_kv_heads,num_kv_heads"},
    {"attention.layer_norm_rms_epsilon", KV_F32, "rms_norm_eps,norm_eps"},
    {"attention.layer_norm_epsilon", KV_F32, "layer_norm_eps,layer_norm_epsilon,norm_epsilon"},
    {"attention.key_length", KV_U32, "head_dim"},
    {"attention.value_length", KV_U32, "head_dim"},
    {"expert_count", KV_U32, "num_local_experts,num_experts,n_routed_experts"},
    {"expert_used_count", KV_U32, "num_experts_per_tok,num_experts_per_token"},
    {NULL, KV_U32, NULL},
};

/* ---- rotary embedding ---- */

/* rope_parameters (perhaps one per kind of layer) or rope_scaling. */
static const json_t *rope_object(const hf *h) {
    const json_t *r = hf_get(h, "rope_parameters");
    const json_t *full = json_object_get(r, "full_attention");
    if (json_is_object(full)) return full;
    return json_is_object(r) ? r : hf_get(h, "rope_scaling");
}

static double number(const json_t *o, const char *name, double otherwise) { return json_get_num(o, name, otherwise); }

/* LLaMA 3: low frequencies are stretched by `factor`, high ones kept, those between blended. The divisors of
 * all frequencies become a tensor. Source: transformers, modeling_rope_utils, "llama3". */
static mote_status put_llama3(hf *h, const json_t *r, double theta, mote_error *err) {
    double factor = number(r, "factor", 8), low = number(r, "low_freq_factor", 1), high = number(r, "high_freq_factor", 4);
    double old = number(r, "original_max_position_embeddings", 8192);
    if (!(factor > 0) || !(low > 0) || !(high > low) || !(old > 0) || h->n_rot < 2)
        FAIL(err, MOTE_E_RANGE, "config.json: the numbers of rope scaling 'llama3' make no sense");
    float *v;
    uint64_t n = h->n_rot / 2;
    TRY(hf_make_f32(h, NULL, "rope_freqs.weight", -1, 1, &n, &v, err));
    for (uint64_t i = 0; i < n; i++) {
        double wave = 2 * 3.14159265358979323846 * pow(theta, 2.0 * (double)i / (double)h->n_rot);
        double x = 1;
        if (wave > old / low) x = factor;
        else if (wave >= old / high) {
            double smooth = (old / wave - low) / (high - low);
            x = 1 / ((1 - smooth) / factor + smooth);
        }
        v[i] = (float)x;
    }
    return MOTE_OK;
}

static mote_status put_factors(hf *h, const json_t *list, const char *to, mote_error *err) {
    float *v;
    uint64_t n = json_array_size(list);
    if (n != h->n_rot / 2)
        FAIL(err, MOTE_E_MISMATCH, "config.json: rope scaling has %llu factors, %u expected", (unsigned long long)n,
             h->n_rot / 2);
    TRY(hf_make_f32(h, NULL, to, -1, 1, &n, &v, err));
    for (size_t i = 0; i < n; i++) v[i] = (float)json_number_value(json_array_get(list, i));
    return MOTE_OK;
}

/* LongRoPE: two sets of divisors, and attention scaled up by how much longer the context has become. */
static mote_status put_longrope(hf *h, const json_t *r, mote_error *err) {
    double max = json_number_value(hf_get(h, "max_position_embeddings"));
    double old = number(r, "original_max_position_embeddings",
                        json_number_value(hf_get(h, "original_max_position_embeddings")));
    if (!(old > 1)) old = max > 1 ? max : 4096;
    double scale = max / old, attn = scale <= 1 ? 1 : sqrt(1 + log(scale) / log(old));
    attn = number(r, "attention_factor", attn);
    TRY(hf_put_u32(h, "rope.scaling.original_context_length", (uint32_t)MIN(old, 4e9), err));
    TRY(hf_put_f32(h, "rope.scaling.attn_factor", attn, err));
    TRY(put_factors(h, json_object_get(r, "long_factor"), "rope_factors_long.weight", err));
    return put_factors(h, json_object_get(r, "short_factor"), "rope_factors_short.weight", err);
}

static mote_status put_yarn(hf *h, const json_t *r, mote_error *err) {
    static const struct {
        const char *from, *key;
    } optional[] = {
        {"attention_factor", "rope.scaling.yarn_attn_factor"},
        {"beta_fast", "rope.scaling.yarn_beta_fast"},
        {"beta_slow", "rope.scaling.yarn_beta_slow"},
        {"extrapolation_factor", "rope.scaling.yarn_ext_factor"},
    };
    TRY(hf_put_str(h, "rope.scaling.type", STR("yarn"), err));
    TRY(hf_put_f32(h, "rope.scaling.factor", number(r, "factor", 1), err));
    double old = number(r, "original_max_position_embeddings", 0);
    if (old >= 1) TRY(hf_put_u32(h, "rope.scaling.original_context_length", (uint32_t)MIN(old, 4e9), err));
    for (size_t i = 0; i < COUNT_OF(optional); i++)
        if (json_is_number(json_object_get(r, optional[i].from)))
            TRY(hf_put_f32(h, optional[i].key, number(r, optional[i].from, 0), err));
    return MOTE_OK;
}

static mote_status put_rope(hf *h, mote_error *err) {
    const json_t *r = rope_object(h);
    double theta = 10000, partial = 1;
    TRY(hf_get_f32(h, "rope_theta,rotary_emb_base,rope_base,global_rope_theta,rope_freq_constant", &theta, err));
    theta = number(r, "rope_theta", theta);
    TRY(hf_get_f32(h, "partial_rotary_factor,rotary_pct,rope_pct,rotary_percent", &partial, err));
    partial = number(r, "partial_rotary_factor", partial);
    uint32_t rotary_dim = 0;
    TRY(hf_get_u32(h, "rotary_dim,qk_rope_head_dim", &rotary_dim, err));
    if (!(theta > 0) || !(partial > 0) || !(partial <= 1))
        FAIL(err, MOTE_E_RANGE, "config.json: rotary base %g or part %g makes no sense", theta, partial);
    h->n_rot = rotary_dim ? rotary_dim : (uint32_t)((double)h->head_dim * partial);
    if (h->n_rot) TRY(hf_put_u32(h, "rope.dimension_count", h->n_rot, err));
    TRY(hf_put_f32(h, "rope.freq_base", theta, err));

    str type = json_get_str(r, "rope_type");
    if (!type.p) type = json_get_str(r, "type");
    if (!type.p || str_is(type, "default") || str_is(type, "mrope") || str_is(type, "dynamic") || str_is(type, "none"))
        return MOTE_OK;
    if (str_is(type, "linear")) {
        TRY(hf_put_str(h, "rope.scaling.type", STR("linear"), err));
        return hf_put_f32(h, "rope.scaling.factor", number(r, "factor", 1), err);
    }
    if (str_is(type, "yarn")) return put_yarn(h, r, err);
    if (str_is(type, "llama3")) return put_llama3(h, r, theta, err);
    if (str_is(type, "longrope") || str_is(type, "su")) return put_longrope(h, r, err);
    FAIL(err, MOTE_E_UNSUPPORTED, "config.json: rope scaling '%.*s' is not known", STR_ARG(type));
}

/* What the tables and ops need to know, from config.json. */
static mote_status read_sizes(hf *h, mote_error *err) {
    TRY(hf_get_u32(h, "n_layers,num_hidden_layers,n_layer,num_layers,num_transformer_layers", &h->n_layer, err));
    TRY(hf_get_u32(h, "hidden_size,n_embd,dim,d_model,model_dim", &h->n_embd, err));
    TRY(hf_get_u32(h, "vocab_size,padded_vocab_size", &h->n_vocab, err));
    TRY(hf_get_u32(h, "num_local_experts,num_experts,n_routed_experts,moe_num_experts,moe_num_primary_experts", &h->n_expert,
                   err));
    const json_t *heads = hf_get(h, "num_attention_heads,n_head,n_heads");
    if (heads && !json_is_array(heads)) TRY(as_u32(heads, "num_attention_heads", &h->n_head, err));
    h->n_head_kv = h->n_head;
    const json_t *kv_heads = hf_get(h, "num_key_value_heads,n_kv_heads,num_kv_heads,n_head_kv,attn_config.kv_n_heads");
    if (kv_heads && !json_is_array(kv_heads)) TRY(as_u32(kv_heads, "num_key_value_heads", &h->n_head_kv, err));
    h->head_dim = h->n_head ? h->n_embd / h->n_head : 0;
    TRY(hf_get_u32(h, "head_dim", &h->head_dim, err));
    if (h->n_layer == 0 || h->n_layer > 4096)
        FAIL(err, MOTE_E_RANGE, "config.json: the number of layers is missing, 0 or above 4096");
    if (h->n_embd == 0 || h->n_embd > 1 << 24) FAIL(err, MOTE_E_RANGE, "config.json: the hidden size makes no sense");
    if (h->head_dim > 1 << 20) FAIL(err, MOTE_E_RANGE, "config.json: a head of %u makes no sense", h->head_dim);
    return MOTE_OK;
}

mote_status hf_put_common(hf *h, mote_error *err) {
    TRY(read_sizes(h, err));
    TRY(hf_put_str(h, "general.architecture", str_of(h->arch->gguf), err));
    TRY(hf_put_str(h, "general.type", STR("model"), err));
    TRY(hf_put_u32(h, "block_count", h->n_layer, err));
    TRY(hf_put_u32(h, "embedding_length", h->n_embd, err));
    if (h->n_vocab) TRY(hf_put_u32(h, "vocab_size", h->n_vocab, err));
    if (!(h->arch->flags & HF_OWN_KEYS)) TRY(hf_put_table(h, common, err));
    if (!(h->arch->flags & (HF_NO_ROPE | HF_OWN_KEYS))) TRY(put_rope(h, err));
    TRY(hf_put_table(h, h->arch->keys, err));
    return h->arch->extra ? h->arch->extra(h, err) : MOTE_OK;
}
