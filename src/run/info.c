/* info.c: what a model file says, as the JSON of mote_model_info. */
#include "run/run.h"

#include <math.h>
#include <stdio.h>

#define FIRST_ELEMENTS 8 /* of an array, shown in place of all */

/* ---- small builders: a failure anywhere makes the whole NULL ---- */

static json_t *text(str s) {
    return utf8_valid(s.p ? s.p : "", s.n) ? json_stringn(s.p ? s.p : "", s.n) : json_string("(not UTF-8)");
}

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }
static json_t *count(uint64_t v) { return json_integer((json_int_t)v); }

static bool put(json_t *obj, const char *key, json_t *v) { return json_object_set_new(obj, key, v) == 0; }

/* ---- metadata ---- */

static const char *kv_type_name(kv_type t) {
    static const char *const names[] = {"u8",   "i8",  "u16", "i16", "u32", "i32", "f32",
                                        "bool", "str", "arr", "u64", "i64", "f64"};
    return (size_t)t < COUNT_OF(names) ? names[t] : "?";
}

static json_t *element(const kv *k, uint64_t i) {
    int64_t n;
    double x;
    if (k->elem == KV_STRING) return text(kv_at_str(k, i));
    if (k->elem == KV_BOOL && kv_at_int(k, i, &n)) return json_boolean(n);
    if (kv_at_int(k, i, &n)) return json_integer(n);
    return kv_at_num(k, i, &x) ? number(x) : json_null();
}

static json_t *value(const kv *k) {
    switch (k->type) {
    case KV_STRING: return text(k->s);
    case KV_BOOL: return json_boolean(k->i != 0);
    case KV_F32:
    case KV_F64: return number(k->f);
    case KV_U64: return k->i < 0 ? json_real((double)(uint64_t)k->i) : json_integer(k->i);
    case KV_ARRAY: break;
    default: return json_integer(k->i);
    }
    json_t *first = json_array();
    for (uint64_t i = 0; i < MIN(k->count, (uint64_t)FIRST_ELEMENTS); i++)
        if (json_array_append_new(first, element(k, i)) != 0) {
            json_decref(first);
            return NULL;
        }
    return json_pack("{s:s, s:I, s:o}", "array", kv_type_name(k->elem), "count", (json_int_t)k->count,
                     "first", first);
}

static bool put_metadata(json_t *o, const mote_model *m, int flags) {
    json_t *all = json_object();
    if (!put(o, "metadata", all)) return false;
    for (size_t i = 0; m->file && i < model_file_n_kv(m->file); i++) {
        const kv *k = model_file_kv(m->file, i);
        bool templ = str_starts(k->key, STR("tokenizer.chat_template")) && k->type == KV_STRING;
        if (templ && str_is(k->key, "tokenizer.chat_template") && (flags & MOTE_INFO_TEMPLATE) &&
            !put(o, "template_text", text(k->s)))
            return false;
        json_t *v = templ ? json_pack("{s:I}", "bytes", (json_int_t)k->s.n) : value(k);
        char key[256];
        size_t n = MIN(k->key.n, sizeof key - 1);
        memcpy(key, k->key.p, n);
        key[n] = 0;
        if (!v || json_object_set_new(all, key, v) != 0) { /* a key that is not UTF-8 cannot be shown */
            if (utf8_valid(key, n)) return false;
        }
    }
    return true;
}

/* ---- tensors ---- */

typedef struct type_sum {
    quant_type type;
    uint64_t tensors, params, bytes;
} type_sum;

static uint64_t n_params(const tensor_info *t) {
    uint64_t n = 1;
    for (int d = 0; d < t->n_dims; d++) n *= t->ne[d];
    return n;
}

static size_t sum_types(const model_file *f, type_sum sums[QUANT_TYPE_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        size_t k = 0;
        while (k < n && sums[k].type != t->type) k++;
        if (k == n) sums[n++] = (type_sum){.type = t->type};
        sums[k].tensors++;
        sums[k].params += n_params(t);
        sums[k].bytes += t->size;
    }
    for (size_t i = 1; i < n; i++) /* by bytes, descending */
        for (size_t k = i; k > 0 && sums[k].bytes > sums[k - 1].bytes; k--) {
            type_sum x = sums[k];
            sums[k] = sums[k - 1];
            sums[k - 1] = x;
        }
    return n;
}

static const char *type_name(quant_type t) {
    const quant_format *f = quant_get((int)t);
    return f ? f->name : "?";
}

static bool put_types(json_t *o, const mote_model *m) {
    type_sum sums[QUANT_TYPE_MAX];
    size_t n = sum_types(m->file, sums);
    uint64_t params = 0;
    json_t *all = json_array();
    if (!put(o, "types", all)) return false;
    for (size_t i = 0; i < n; i++) {
        params += sums[i].params;
        double bits = sums[i].params ? 8.0 * (double)sums[i].bytes / (double)sums[i].params : 0;
        json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:f}", "type", type_name(sums[i].type), "tensors",
                                (json_int_t)sums[i].tensors, "params", (json_int_t)sums[i].params, "bytes",
                                (json_int_t)sums[i].bytes, "bits_per_weight", bits);
        if (json_array_append_new(all, row) != 0) return false;
    }
    return put(o, "n_params", count(params)) && put(o, "n_tensors", count(model_file_n_tensors(m->file))) &&
           put(o, "file_bytes", count(model_file_bytes(m->file)));
}

static bool put_tensors(json_t *o, const mote_model *m) {
    json_t *all = json_array();
    if (!put(o, "tensors", all)) return false;
    for (size_t i = 0; i < model_file_n_tensors(m->file); i++) {
        const tensor_info *t = model_file_tensor(m->file, i);
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            if (json_array_append_new(shape, count(t->ne[d])) != 0) {
                json_decref(shape);
                return false;
            }
        json_t *row = json_pack("{s:o, s:s, s:o, s:I}", "name", text(t->name), "type", type_name(t->type),
                                "shape", shape, "bytes", (json_int_t)t->size);
        if (json_array_append_new(all, row) != 0) return false;
    }
    return true;
}

/* ---- the rest ---- */

static bool put_sizes(json_t *o, const mote_model *m) {
    static const struct {
        const char *name, *key;
    } keys[] = {{"n_layer", "block_count"}, {"n_embd", "embedding_length"}, {"n_ctx_train", "context_length"},
                {"n_head", "attention.head_count"}, {"n_head_kv", "attention.head_count_kv"},
                {"n_ff", "feed_forward_length"}, {"n_expert", "expert_count"},
                {"n_expert_used", "expert_used_count"}, {"window", "attention.sliding_window"}};
    json_t *sizes = json_object();
    if (!put(o, "sizes", sizes)) return false;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char key[160];
        (void)snprintf(key, sizeof key, "%s.%s", m->arch, keys[i].key);
        const kv *k = model_file_find(m->file, key);
        if (k && !put(sizes, keys[i].name, value(k))) return false;
    }
    return put(sizes, "n_vocab", count(m->info ? m->info->n_vocab : m->vocab ? tok_count(m->vocab) : 0));
}

static json_t *runtime(const mote_model *m) {
    static const char *const poolings[] = {"none", "mean", "cls", "last", "rank"};
    const model_info *i = m->info;
    if (!i) return json_null();
    return json_pack("{s:s, s:I, s:I, s:b, s:b, s:b, s:b, s:s}", "isa", i->rung, "weight_bytes",
                     (json_int_t)i->weight_bytes, "packed_bytes", (json_int_t)i->packed_bytes, "encoder",
                     !i->causal, "recurrent", i->recurrent, "windowed", i->windowed, "can_shift",
                     i->can_shift, "pooling",
                     (size_t)i->pooling < COUNT_OF(poolings) ? poolings[i->pooling] : "?");
}

static bool put_tokenizer(json_t *o, const mote_model *m) {
    static const char *const names[] = {"bos",     "eos",     "eot",     "eom",     "unk",
                                        "sep",     "pad",     "mask",    "fim_pre", "fim_suf",
                                        "fim_mid", "fim_pad", "fim_rep", "fim_sep"};
    const tok_vocab *v = m->vocab;
    if (!v) return put(o, "tokenizer", json_null());
    json_t *special = json_object();
    json_t *t =
        json_pack("{s:s, s:I, s:b, s:b, s:b, s:o}", "kind", tok_kind_name(tok_vocab_kind(v)), "n_tokens",
                  (json_int_t)tok_count(v), "adds_bos", tok_adds_bos(v), "adds_eos", tok_adds_eos(v), "fim",
                  tok_id(v, TOK_ROLE_FIM_PRE) != TOK_NONE, "special", special);
    if (!put(o, "tokenizer", t)) return false;
    for (int i = 0; i < TOK_ROLES; i++) {
        int32_t id = tok_id(v, (tok_role)i);
        if (id == TOK_NONE) continue;
        json_t *row = json_pack("{s:i, s:o}", "id", (int)id, "text", text(tok_text(v, id)));
        if (json_object_set_new(special, names[i], row) != 0) return false;
    }
    return true;
}

static json_t *template_info(const mote_model *m) {
    const kv *k = m->file ? model_file_find(m->file, "tokenizer.chat_template") : NULL;
    bool own = k && k->type == KV_STRING;
    bool chatml = m->vocab && tok_find(m->vocab, STR("<|im_start|>")) != TOK_NONE &&
                  tok_find(m->vocab, STR("<|im_end|>")) != TOK_NONE;
    str s = own ? k->s : (str){"", 0};
    return json_pack("{s:s, s:I, s:b, s:b}", "source",
                     own      ? "model"
                     : chatml ? "chatml"
                              : "plain",
                     "bytes", (json_int_t)s.n, "tools", str_find(s, STR("tools"), 0) != SIZE_MAX, "thinking",
                     str_find(s, STR("enable_thinking"), 0) != SIZE_MAX ||
                         str_find(s, STR("<think>"), 0) != SIZE_MAX);
}

static json_t *license(const mote_model *m) {
    const kv *k = m->file ? model_file_find(m->file, "general.license") : NULL;
    return k && k->type == KV_STRING ? text(k->s) : json_null();
}

static json_t *build(const mote_model *m, int flags) {
    json_t *o = json_object();
    bool ok = put(o, "path", text(str_of(m->path))) && put(o, "architecture", json_string(m->arch)) &&
              put(o, "name", text(str_of(m->name))) && put(o, "license", license(m));
    if (m->file) ok = ok && put_types(o, m) && put_sizes(o, m);
    ok = ok && put(o, "runtime", runtime(m)) && put_tokenizer(o, m) && put(o, "template", template_info(m)) &&
         put_metadata(o, m, flags);
    if (m->file && (flags & MOTE_INFO_TENSORS)) ok = ok && put_tensors(o, m);
    if (ok) return o;
    json_decref(o);
    return NULL;
}

static int append(const char *p, size_t n, void *b) {
    buf_put(b, p, n);
    return 0;
}

mote_status run_model_info(const mote_model *m, int flags, buf *out, mote_error *err) {
    json_t *o = build(m, flags);
    if (!o) FAIL(err, MOTE_E_MEMORY, "out of memory for the description of the model");
    int bad = json_dump_callback(o, append, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(o);
    if (bad) FAIL(err, MOTE_E_MEMORY, "out of memory for the description of the model");
    return buf_check(out, "description of the model", err);
}
