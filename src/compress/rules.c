/* rules.c: which tensor gets which format.
 *
 * The rules are llama.cpp's (llama_tensor_get_type), so that a type name means the same everywhere. They look
 * at a tensor's role, at how far into the model it lies, and at a few facts of the model. "How far" counts
 * tensors of a role in the order of layers, so decisions are made in that order, whatever the file's is. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "compress/rules.h"

#include <pcre2.h>
#include <stdlib.h>

const ftype_info ftypes[FTYPE_COUNT] = {
#define FTYPE(NAME, number, format, about) {#NAME, about, (number) == -1 ? 38 : (number), QUANT_##format},
#include "compress/ftypes.def"
#undef FTYPE
};

static char upper(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool same(const char *a, const char *b) {
    while (*a && upper(*a) == upper(*b)) a++, b++;
    return !*a && !*b;
}

ftype ftype_find(const char *name) {
    static const struct {
        const char *alias;
        ftype type;
    } aliases[] = {{"Q3_K", FTYPE_Q3_K_M}, {"Q4_K", FTYPE_Q4_K_M}, {"Q5_K", FTYPE_Q5_K_M}};
    int64_t number;
    if (!name) return FTYPE_COUNT;
    if (str_to_i64(str_of(name), &number)) {
        for (int t = 0; t < FTYPE_COUNT; t++) {
            if (ftypes[t].file_type == number && t != FTYPE_MXFP4 && t != FTYPE_COPY) return (ftype)t;
        }
        return FTYPE_COUNT;
    }
    for (size_t i = 0; i < COUNT_OF(aliases); i++) {
        if (same(name, aliases[i].alias)) return aliases[i].type;
    }
    for (int t = 0; t < FTYPE_COUNT; t++) {
        if (same(name, ftypes[t].name)) return (ftype)t;
    }
    return FTYPE_COUNT;
}

typedef enum tensor_role {
    ROLE_OTHER, ROLE_EMBEDDING, ROLE_OUTPUT, ROLE_Q, ROLE_K, ROLE_V, ROLE_ATTENTION_OUT, ROLE_UP, ROLE_GATE,
    ROLE_DOWN
} tensor_role;

struct rules {
    mote_quantize_options o; /* lists and names in it are the caller's */
    ftype type;
    quant_type base;
    int output_format, embedding_format; /* or -1 */
    pcre2_code **patterns;
    quant_type *formats; /* of the patterns */
    pcre2_match_data *match;
    str arch;
    uint32_t n_layer, n_expert, gqa; /* gqa: query heads per key head */
    bool falcon, seventy, tied, importance;
    uint32_t n_v, i_v, i_down, i_up, i_gate; /* attention values in all; tensors of the roles so far */
};

static bool has(str s, const char *part) {
    return str_find(s, str_of(part), 0) != SIZE_MAX;
}

static tensor_role role_of(str name) {
    static const struct {
        const char *part;
        tensor_role r;
    } parts[] = {{"attn_qkv.weight", ROLE_V}, {"attn_kv_b.weight", ROLE_V}, {"attn_v.weight", ROLE_V},
                 {"attn_k.weight", ROLE_K},   {"attn_q.weight", ROLE_Q},
                 {"attn_output.weight", ROLE_ATTENTION_OUT},
                 {"ffn_up", ROLE_UP},         {"ffn_gate", ROLE_GATE},      {"ffn_down", ROLE_DOWN}};
    if (str_is(name, "output.weight")) return ROLE_OUTPUT;
    if (str_is(name, "token_embd.weight")) return ROLE_EMBEDDING;
    if (str_is(name, "per_layer_token_embd.weight")) return ROLE_EMBEDDING;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (has(name, parts[i].part)) return parts[i].r;
    }
    return ROLE_OTHER;
}

/* Small tensors that decide much stay as they are: norms, routers, convolutions, decays, positions. */
static bool stays(const rules *r, const tensor_info *t) {
    static const char *const parts[] = {
        "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
        "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
        "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
        "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
        "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
        "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
        "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
        "a.rvq.codebook", "mm.a.code_embd"};
    int dims = 1;
    for (int i = 1; i < TENSOR_DIMS_MAX; i++) dims = i < t->n_dims && t->ne[i] > 1 ? i + 1 : dims;
    const quant_format *from = quant_get((int)t->type);
    if (dims < 2 || !from || !from->decode) return true;
    if (!str_ends(t->name, STR("weight"))) return true;
    if (str_is(t->name, "position_embd.weight") || str_is(t->name, "token_types.weight")) return true;
    if (r->o.leave_output && str_is(t->name, "output.weight")) return true;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (has(t->name, parts[i])) return true;
    }
    return false;
}

/* The number in "blk.N.", or -1. */
static int64_t layer_of(str name) {
    if (!str_starts(name, STR("blk."))) return -1;
    size_t dot = str_find(name, STR("."), 4);
    int64_t n;
    return dot != SIZE_MAX && str_to_i64(str_sub(name, 4, dot - 4), &n) && n >= 0 ? n : -1;
}

/* The first and last eighth of the layers, and every third between. */
static bool more_bits(uint32_t i, uint32_t n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

/* The types of at most 2.7 bits, which share their rules. */
static bool tiny(ftype t) {
    return t == FTYPE_IQ1_S || t == FTYPE_IQ1_M || t == FTYPE_IQ2_XXS || t == FTYPE_IQ2_XS ||
           t == FTYPE_IQ2_S || t == FTYPE_IQ2_M;
}

static const char odd_columns[] = "its columns are no multiple of the block";

/* The output matrix, and an embedding that also serves as one. Also says in *c when columns decided. */
static quant_type for_output(const rules *r, const tensor_info *t, quant_type base, rules_choice *c) {
    if (r->output_format >= 0) return (quant_type)r->output_format;
    if (r->type == FTYPE_MXFP4_MOE || r->falcon || base == QUANT_Q8_0) return QUANT_Q8_0;
    quant_type q = tiny(r->type) || r->type == FTYPE_IQ3_XXS ? QUANT_Q5_K : QUANT_Q6_K;
    if (t->ne[0] % quant_get((int)base)->block == 0) return q;
    c->wanted = q;
    c->why = odd_columns;
    return QUANT_Q8_0;
}

static quant_type for_embedding(const rules *r, quant_type base) {
    switch (r->type) {
    case FTYPE_IQ1_S: case FTYPE_IQ1_M: case FTYPE_IQ2_XXS: case FTYPE_IQ2_XS: return QUANT_Q2_K;
    case FTYPE_IQ2_S: case FTYPE_IQ2_M: case FTYPE_IQ3_XXS: return QUANT_IQ3_S;
    case FTYPE_TQ1_0: case FTYPE_TQ2_0: case FTYPE_Q2_0: return QUANT_Q4_K;
    case FTYPE_Q4_0_24: return QUANT_Q4_0; /* rows that are looked up are not sparse */
    case FTYPE_Q8_0_24: return QUANT_Q8_0;
    default: return base;
    }
}

static quant_type for_tiny(rules *r, tensor_role role, quant_type base) {
    bool upper_two = r->type == FTYPE_IQ2_S || r->type == FTYPE_IQ2_M;
    quant_type better = upper_two ? QUANT_IQ3_S : QUANT_Q2_K;
    if (role == ROLE_V) {
        r->i_v++;
        return r->gqa >= 4 || r->n_expert >= 4 ? QUANT_Q4_K : better;
    }
    if (role == ROLE_K && r->n_expert == 8) return QUANT_Q4_K;
    if (role == ROLE_DOWN) return r->i_down++ < r->n_layer / 8 ? better : base;
    if (role == ROLE_ATTENTION_OUT) {
        if (r->n_expert == 8) return QUANT_Q5_K;
        if (r->type == FTYPE_IQ1_S || r->type == FTYPE_IQ1_M) return QUANT_IQ2_XXS;
        if (upper_two) return QUANT_IQ3_S;
    }
    return base;
}

static quant_type for_values(rules *r, quant_type base) {
    quant_type q = base;
    bool shared = r->gqa >= 4;
    uint32_t i = r->i_v++;
    switch (r->type) {
    case FTYPE_Q2_K: q = shared ? QUANT_Q4_K : QUANT_Q3_K; break;
    case FTYPE_Q2_K_S: case FTYPE_IQ3_XS: case FTYPE_IQ3_S: q = shared ? QUANT_Q4_K : q; break;
    case FTYPE_IQ3_XXS: q = shared ? QUANT_Q4_K : r->importance ? QUANT_IQ3_XXS : QUANT_IQ3_S; break;
    case FTYPE_IQ3_M: q = QUANT_Q4_K; break;
    case FTYPE_Q3_K_M: q = i < 2 ? QUANT_Q5_K : QUANT_Q4_K; break;
    case FTYPE_Q3_K_L: q = QUANT_Q5_K; break;
    case FTYPE_IQ4_NL: case FTYPE_IQ4_XS: q = shared ? QUANT_Q5_K : q; break;
    case FTYPE_Q4_K_M: case FTYPE_Q5_K_M: q = more_bits(i, r->n_v) ? QUANT_Q6_K : q; break;
    case FTYPE_Q4_K_S: q = i < 4 ? QUANT_Q5_K : q; break;
    default: break;
    }
    if (r->seventy && (q == QUANT_Q3_K || q == QUANT_Q4_K)) q = QUANT_Q5_K; /* eight heads share it */
    return r->n_expert == 8 ? QUANT_Q8_0 : q;
}

static quant_type for_queries_and_keys(const rules *r, tensor_role role, quant_type base) {
    if (role == ROLE_K && r->n_expert == 8) return QUANT_Q8_0;
    return r->type == FTYPE_IQ3_XS ? QUANT_IQ3_XXS : r->type == FTYPE_IQ3_XXS ? QUANT_IQ2_S : base;
}

/* Which layer a tensor of a feed-forward counts for: experts may lie in any order, there the name tells. */
static mote_status layer_index(const rules *r, str name, uint32_t counted, uint32_t *layer, mote_error *err) {
    *layer = counted;
    if (r->n_expert <= 1) return MOTE_OK;
    int64_t n = layer_of(name);
    if (n < 0 || n >= r->n_layer) {
        FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' names no layer below %u", STR_ARG(name), r->n_layer);
    }
    *layer = (uint32_t)n;
    return MOTE_OK;
}

static quant_type for_down(const rules *r, uint32_t i, quant_type base) {
    uint32_t n = r->n_layer;
    bool first_eighth = i < n / 8, more = more_bits(i, n);
    switch (r->type) {
    case FTYPE_Q2_K: return QUANT_Q3_K;
    case FTYPE_Q2_K_S: return first_eighth ? QUANT_Q4_K : base;
    case FTYPE_IQ3_XXS: return r->importance ? base : first_eighth ? QUANT_Q4_K : QUANT_Q3_K;
    case FTYPE_Q3_K_M: return i < n / 16 ? QUANT_Q5_K : !r->falcon || more ? QUANT_Q4_K : QUANT_Q3_K;
    case FTYPE_IQ3_M: return first_eighth || (r->n_expert == 8 && more) ? QUANT_Q4_K : base;
    case FTYPE_Q3_K_L: return r->falcon ? QUANT_Q4_K : QUANT_Q5_K;
    case FTYPE_Q4_K_M:
        if (r->falcon && i >= n / 16) return more ? QUANT_Q5_K : QUANT_Q4_K;
        return r->falcon || more ? QUANT_Q6_K : base;
    case FTYPE_IQ4_NL: case FTYPE_IQ4_XS: return first_eighth && !r->importance ? QUANT_Q5_K : base;
    case FTYPE_Q5_K_M: return more ? QUANT_Q6_K : base;
    case FTYPE_Q4_K_S: return first_eighth && !r->falcon ? QUANT_Q5_K : base;
    case FTYPE_Q4_0: return first_eighth && r->importance ? QUANT_Q4_1 : base;
    case FTYPE_Q5_0: return first_eighth && r->importance ? QUANT_Q5_1 : base;
    default: return base;
    }
}

static quant_type for_attention_out(const rules *r, quant_type base) {
    if (r->falcon) return r->type == FTYPE_Q3_K_L ? QUANT_Q4_K : base;
    if (r->n_expert == 8) {
        switch (r->type) {
        case FTYPE_Q2_K: case FTYPE_IQ3_XS: case FTYPE_IQ3_XXS: case FTYPE_Q3_K_S: case FTYPE_Q3_K_M:
        case FTYPE_IQ4_NL: case FTYPE_Q4_K_S: case FTYPE_Q4_K_M: case FTYPE_IQ3_S: case FTYPE_IQ3_M:
        case FTYPE_IQ4_XS: return QUANT_Q5_K;
        default: return base;
        }
    }
    switch (r->type) {
    case FTYPE_Q2_K: return QUANT_Q3_K;
    case FTYPE_IQ3_XXS: return QUANT_IQ3_S;
    case FTYPE_Q3_K_M: case FTYPE_IQ3_M: return QUANT_Q4_K;
    case FTYPE_Q3_K_L: return QUANT_Q5_K;
    default: return base;
    }
}

static mote_status by_role(rules *r, const tensor_info *t, tensor_role role, quant_type *q, rules_choice *c,
                           mote_error *err) {
    uint32_t i, n = r->n_layer;
    if (role == ROLE_OUTPUT || (role == ROLE_EMBEDDING && r->tied)) {
        *q = for_output(r, t, *q, c);
    } else if (r->type == FTYPE_MXFP4_MOE) {
        bool expert = role == ROLE_UP || role == ROLE_GATE || role == ROLE_DOWN;
        bool named = str_is(r->arch, "bailingmoe3"); /* has other tensors of three dimensions, too */
        *q = t->n_dims > 2 && t->ne[2] > 1 && (expert || !named) ? QUANT_MXFP4 : QUANT_Q8_0;
    } else if (role == ROLE_EMBEDDING) {
        *q = for_embedding(r, *q);
    } else if (tiny(r->type)) {
        *q = for_tiny(r, role, *q);
    } else if (role == ROLE_V) {
        *q = for_values(r, *q);
    } else if (role == ROLE_Q || role == ROLE_K) {
        *q = for_queries_and_keys(r, role, *q);
    } else if (role == ROLE_DOWN) {
        TRY(layer_index(r, t->name, r->i_down++, &i, err));
        *q = for_down(r, i, *q);
    } else if (role == ROLE_ATTENTION_OUT) {
        *q = for_attention_out(r, *q);
    } else if (role == ROLE_GATE || role == ROLE_UP) {
        TRY(layer_index(r, t->name, role == ROLE_UP ? r->i_up++ : r->i_gate++, &i, err));
        if (r->type == FTYPE_IQ3_XS && i >= n / 8 && i < 7 * n / 8) *q = QUANT_IQ3_XXS;
    }
    return MOTE_OK;
}

/* What stands in where rows do not divide into blocks: about the same size, blocks of 32; else halves. */
static quant_type fallback(quant_type q, uint64_t columns) {
    quant_type other = QUANT_F16;
    switch (q) {
    case QUANT_IQ1_S: case QUANT_IQ1_M: case QUANT_IQ2_XXS: case QUANT_IQ2_XS: case QUANT_IQ2_S:
    case QUANT_IQ3_XXS: case QUANT_IQ3_S: case QUANT_IQ4_XS: case QUANT_NVFP4: other = QUANT_IQ4_NL; break;
    case QUANT_Q1_0: case QUANT_Q2_0: case QUANT_Q2_K: case QUANT_Q3_K: case QUANT_TQ1_0:
    case QUANT_TQ2_0: case QUANT_TQ1_192: case QUANT_Q2_96: case QUANT_Q3_96: case QUANT_Q4_96: other = QUANT_Q4_0; break;
    case QUANT_Q4_K: other = QUANT_Q5_0; break;
    case QUANT_Q5_K: other = QUANT_Q5_1; break;
    case QUANT_Q6_K: other = QUANT_Q8_0; break;
    default: break;
    }
    return columns % quant_get((int)other)->block ? QUANT_F16 : other;
}

static bool matches(const rules *r, size_t i, str name) {
    return pcre2_match(r->patterns[i], (PCRE2_SPTR)name.p, name.n, 0, 0, r->match, NULL) >= 0;
}

static mote_status decide(rules *r, const tensor_info *t, rules_choice *c, mote_error *err) {
    tensor_role role = role_of(t->name);
    *c = (rules_choice){0};
    quant_type q = r->base;
    bool manual = false, copy = r->type == FTYPE_COPY;
    if (stays(r, t)) {
        q = t->type;
    } else if (role == ROLE_EMBEDDING && r->embedding_format >= 0) {
        q = (quant_type)r->embedding_format;
    } else if (role == ROLE_OUTPUT && r->output_format >= 0) {
        q = (quant_type)r->output_format;
    } else if (copy || quant_get((int)q)->block > 1) {
        if (copy) q = t->type;
        for (size_t i = 0; i < r->o.n_overrides && !manual; i++) {
            manual = matches(r, i, t->name);
            if (manual) q = r->formats[i];
        }
        if (!manual && !copy && !r->o.pure) TRY(by_role(r, t, role, &q, c, err));
    }
    if (!c->why) c->wanted = q;
    c->got = q;
    if (t->ne[0] % quant_get((int)q)->block) {
        c->got = fallback(q, t->ne[0]);
        c->why = odd_columns;
    }
    return MOTE_OK;
}

typedef struct by_layer {
    int64_t layer;
    str name;
    size_t at;
} by_layer;

static int in_order(const void *a, const void *b) {
    const by_layer *x = a, *y = b;
    if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
    int c = memcmp(x->name.p, y->name.p, MIN(x->name.n, y->name.n));
    return c ? c : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

mote_status rules_decide(rules *r, const model_file *f, rules_choice *choice, mote_error *err) {
    size_t n = model_file_n_tensors(f);
    by_layer *order = MEM_NEW_N(by_layer, n);
    if (!order) FAIL(err, MOTE_E_MEMORY, "out of memory for %zu tensors", n);
    r->n_v = r->i_v = r->i_down = r->i_up = r->i_gate = 0;
    r->tied = true;
    for (size_t i = 0; i < n; i++) {
        str name = model_file_tensor(f, i)->name;
        order[i] = (by_layer){layer_of(name), name, i};
        if (role_of(name) == ROLE_V) r->n_v++;
        if (role_of(name) == ROLE_OUTPUT) r->tied = false;
    }
    if (n) qsort(order, n, sizeof *order, in_order);
    mote_status s = MOTE_OK;
    for (size_t i = 0; i < n && s == MOTE_OK; i++) {
        s = decide(r, model_file_tensor(f, order[i].at), &choice[order[i].at], err);
    }
    mem_free(order);
    return s;
}

static mote_status find_format(const char *name, const char *what, quant_type *q, mote_error *err) {
    const quant_format *f = quant_by_name(name);
    if (!f) {
        FAIL(err, MOTE_E_USAGE, "%s: '%s' is no number format (try q8_0, q4_K, iq4_nl, f16)", what,
             name ? name : "");
    }
    if (!f->encode) FAIL(err, MOTE_E_UNSUPPORTED, "%s: %s can be read but not written", what, f->name);
    *q = f->type;
    return MOTE_OK;
}

static mote_status compile(rules *r, mote_error *err) {
    size_t n = r->o.n_overrides;
    if (n == 0) return MOTE_OK;
    r->patterns = MEM_NEW_N(pcre2_code *, n);
    r->formats = MEM_NEW_N(quant_type, n);
    r->match = pcre2_match_data_create(1, NULL);
    if (!r->patterns || !r->formats || !r->match) {
        FAIL(err, MOTE_E_MEMORY, "out of memory for %zu patterns", n);
    }
    for (size_t i = 0; i < n; i++) {
        const mote_tensor_type *t = &r->o.overrides[i];
        int code;
        PCRE2_SIZE at;
        if (!t->pattern || !*t->pattern) FAIL(err, MOTE_E_USAGE, "an empty pattern for tensors");
        r->patterns[i] =
            pcre2_compile((PCRE2_SPTR)t->pattern, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &code, &at, NULL);
        if (!r->patterns[i]) {
            PCRE2_UCHAR text[128];
            (void)pcre2_get_error_message(code, text, sizeof text);
            FAIL(err, MOTE_E_USAGE, "pattern '%s': %s at character %zu", t->pattern, (const char *)text, at);
        }
        TRY(find_format(t->format, t->pattern, &r->formats[i], err));
    }
    return MOTE_OK;
}

/* A number of the architecture; of an array (one per layer) the first. */
static mote_status fact(const rules *r, const model_file *f, const char *key, uint32_t otherwise, uint32_t *v,
                        mote_error *err) {
    char name[256];
    (void)snprintf(name, sizeof name, "%.*s.%s", STR_ARG(r->arch), key);
    const kv *k = model_file_find(f, name);
    int64_t first;
    bool array = k && k->type == KV_ARRAY && k->count;
    if (array && kv_at_int(k, 0, &first) && first >= 0 && first <= UINT32_MAX) {
        *v = (uint32_t)first;
        return MOTE_OK;
    }
    return kv_get_u32(f, name, v, otherwise, err);
}

static mote_status read_facts(rules *r, const model_file *f, mote_error *err) {
    uint32_t heads, kv_heads;
    TRY(kv_get_str(f, "general.architecture", &r->arch, STR(""), err));
    TRY(fact(r, f, "block_count", 0, &r->n_layer, err));
    TRY(fact(r, f, "expert_count", 0, &r->n_expert, err));
    TRY(fact(r, f, "attention.head_count", 0, &heads, err));
    TRY(fact(r, f, "attention.head_count_kv", heads, &kv_heads, err));
    if (r->n_layer > 65536) FAIL(err, MOTE_E_LIMIT, "%u layers are more than any model has", r->n_layer);
    r->gqa = kv_heads ? heads / kv_heads : 0;
    r->falcon = str_is(r->arch, "falcon");
    bool has_seventy = str_is(r->arch, "llama") || str_is(r->arch, "qwen2");
    r->seventy = has_seventy && r->n_layer == 80 && heads != kv_heads;
    return MOTE_OK;
}

static mote_status read_options(rules *r, mote_error *err) {
    const mote_quantize_options *o = &r->o;
    quant_type q;
    r->type = ftype_find(o->type);
    if (r->type == FTYPE_COUNT) {
        FAIL(err, MOTE_E_USAGE, "'%s' is no type to quantize to (try Q4_K_M, Q8_0, F16)",
             o->type ? o->type : "");
    }
    r->base = ftypes[r->type].format;
    r->output_format = r->embedding_format = -1;
    if (o->output_format) {
        TRY(find_format(o->output_format, "format of the output tensor", &q, err));
        r->output_format = (int)q;
    }
    if (o->token_embedding_format) {
        TRY(find_format(o->token_embedding_format, "format of the token embedding", &q, err));
        r->embedding_format = (int)q;
    }
    return compile(r, err);
}

mote_status rules_open(rules **out, const model_file *f, const mote_quantize_options *o, bool importance,
                       mote_error *err) {
    rules *r = MEM_NEW(rules);
    *out = r;
    if (!r) FAIL(err, MOTE_E_MEMORY, "out of memory");
    r->o = *o;
    r->importance = importance;
    mote_status s = read_options(r, err);
    if (s == MOTE_OK) s = read_facts(r, f, err);
    if (s != MOTE_OK) rules_close(out);
    return s;
}

void rules_close(rules **pr) {
    rules *r = pr ? *pr : NULL;
    if (!r) return;
    *pr = NULL;
    for (size_t i = 0; r->patterns && i < r->o.n_overrides; i++) pcre2_code_free(r->patterns[i]);
    pcre2_match_data_free(r->match);
    mem_free(r->patterns);
    mem_free(r->formats);
    mem_free(r);
}

ftype rules_type(const rules *r) {
    return r->type;
}
