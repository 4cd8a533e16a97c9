/* heads.c: the reader of heads files. See heads.h. */
#include "format/heads.h"

#include <math.h>
#include <stdio.h>

void heads_floats(const tensor_info *t, float *dst) {
    quant_get((int)t->type)->decode(dst, t->data, (size_t)(t->ne[0] * t->ne[1]));
}

void heads_close(heads **ph) {
    heads *h = ph ? *ph : NULL;
    if (!h) return;
    *ph = NULL;
    model_file_close(&h->file);
    mem_free(h);
}

/* ---- what it is made for ---- */

static mote_status same_size(const model_file *f, const char *key, const char *what, size_t of_base, mote_error *err) {
    uint32_t v;
    TRY(kv_get_u32(f, key, &v, 0, err));
    if (v == 0) FAIL(err, MOTE_E_FORMAT, "the heads file lacks '%s'", key);
    if (of_base && v != of_base)
        FAIL(err, MOTE_E_MISMATCH, "the heads were made for a model with %s %u, this one has %zu", what, v, of_base);
    return MOTE_OK;
}

static mote_status check_base(const model_file *f, const heads_base *base, mote_error *err) {
    str type, arch, form;
    TRY(kv_get_str(f, "general.type", &type, STR(""), err));
    TRY(kv_get_str(f, "general.architecture", &arch, STR(""), err));
    if (!str_is(type, "heads")) FAIL(err, MOTE_E_FORMAT, "not a heads file: general.type is '%.*s'", STR_ARG(type));
    if (base->arch.n && !str_eq(arch, base->arch))
        FAIL(err, MOTE_E_MISMATCH, "the heads were made for architecture '%.*s', the model's is '%.*s'", STR_ARG(arch), STR_ARG(base->arch));
    TRY(kv_get_str(f, HEADS_KEY_FORM, &form, STR(""), err));
    if (!str_is(form, HEADS_FORM) && !str_is(form, HEADS_FORM_CHAIN))
        FAIL(err, MOTE_E_UNSUPPORTED, "heads of the form '%.*s': '" HEADS_FORM "' and '" HEADS_FORM_CHAIN "' are known; make them anew", STR_ARG(form));
    TRY(same_size(f, HEADS_KEY_N_EMBD, "width", base->n_embd, err));
    TRY(same_size(f, HEADS_KEY_N_LAYER, "layers", base->n_layer, err));
    return same_size(f, HEADS_KEY_N_VOCAB, "vocabulary", base->n_vocab, err);
}

/* ---- a head ---- */

static const tensor_info *part(const model_file *f, size_t i, const char *suffix) {
    char name[64];
    (void)snprintf(name, sizeof name, "head.%zu.%s", i, suffix);
    return model_file_find_tensor(f, name);
}

static mote_status check_vector(const tensor_info *t, size_t n, mote_error *err) {
    if (t->type != QUANT_F32 || t->ne[0] != n || t->ne[1] != 1 || t->ne[2] != 1 || t->ne[3] != 1)
        FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' is not %zu numbers of type F32", STR_ARG(t->name), n);
    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, t->data + i * sizeof x, sizeof x);
        if (!isfinite(x)) FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' holds a number that is not finite, at %zu", STR_ARG(t->name), i);
    }
    return MOTE_OK;
}

static mote_status check_matrix(const tensor_info *t, size_t n, mote_error *err) {
    const quant_format *q = quant_get((int)t->type);
    if (!q || !q->decode) FAIL(err, MOTE_E_UNSUPPORTED, "tensor '%.*s': type %d cannot be read as numbers", STR_ARG(t->name), (int)t->type);
    if (t->ne[0] != n || t->ne[1] != n || t->ne[2] != 1 || t->ne[3] != 1)
        FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' is [%llu, %llu]; expected [%zu, %zu]", STR_ARG(t->name), (unsigned long long)t->ne[0],
             (unsigned long long)t->ne[1], n, n);
    return MOTE_OK;
}

static mote_status check_gate(const heads_one *o, size_t n_embd, size_t i, mote_error *err) {
    float by;
    if (o->offset) FAIL(err, MOTE_E_UNSUPPORTED, "head %zu has a gate, which only an exit needs", i);
    TRY(check_vector(o->gate, n_embd + 2, err));
    memcpy(&by, o->gate->data + (n_embd + 1) * sizeof by, sizeof by);
    if (!(by > 0)) FAIL(err, MOTE_E_RANGE, "tensor '%.*s': its factor of what the exit says is %g; expected more than 0", STR_ARG(o->gate->name), (double)by);
    return MOTE_OK;
}

static mote_status read_one(heads *h, size_t i, size_t n_embd, mote_error *err) {
    heads_one *o = &h->one[i];
    const bool reads_stream = o->offset <= 1;
    if (reads_stream) o->norm = part(h->file, i, "norm.weight");
    o->weight = part(h->file, i, "weight");
    if (o->offset) o->token = part(h->file, i, "token.weight");
    o->bias = part(h->file, i, "bias");
    o->gate = part(h->file, i, "gate");
    const char *missing = reads_stream && !o->norm ? "norm." : !o->weight ? "" : o->offset && !o->token ? "token." : NULL;
    if (missing) FAIL(err, MOTE_E_FORMAT, "head %zu lacks 'head.%zu.%sweight'", i, i, missing);
    if (o->norm) TRY(check_vector(o->norm, n_embd, err));
    TRY(check_matrix(o->weight, n_embd, err));
    if (o->token) TRY(check_matrix(o->token, n_embd, err));
    if (o->bias) TRY(check_vector(o->bias, n_embd, err));
    return o->gate ? check_gate(o, n_embd, i, err) : MOTE_OK;
}

/* ---- the lists ---- */

static mote_status find_list(const model_file *f, const char *key, size_t n, const kv **out, mote_error *err) {
    *out = model_file_find(f, key);
    if (!*out) FAIL(err, MOTE_E_FORMAT, "the heads file lacks '%s'", key);
    if ((*out)->type != KV_ARRAY || (n && (*out)->count != n)) FAIL(err, MOTE_E_FORMAT, "'%s' is not a list with a number for each head", key);
    return MOTE_OK;
}

static mote_status int_at(const kv *k, size_t i, int64_t from, int64_t to, size_t *v, mote_error *err) {
    int64_t x;
    if (!kv_at_int(k, i, &x)) FAIL(err, MOTE_E_FORMAT, "'%.*s' is not a list of whole numbers", STR_ARG(k->key));
    if (x < from || x > to)
        FAIL(err, MOTE_E_RANGE, "'%.*s' is %lld for head %zu; expected %lld to %lld", STR_ARG(k->key), (long long)x, i, (long long)from, (long long)to);
    *v = (size_t)x;
    return MOTE_OK;
}

/* Exits in the order of their layers, Medusa heads one for each token ahead: else which one is meant would be a guess. */
static mote_status check_order(const heads *h, size_t n_layer, mote_error *err) {
    size_t last = 0, ahead = 0;
    for (size_t i = 0; i < h->n; i++) {
        const heads_one *o = &h->one[i];
        if ((o->layer < n_layer) != (o->offset == 0))
            FAIL(err, MOTE_E_UNSUPPORTED, "head %zu reads layer %zu of %zu and tells token %zu ahead: an exit reads an inner layer and tells "
                 "the next token (0), a Medusa head reads the last and tells a later one", i, o->layer, n_layer, o->offset);
        if (o->offset == 0 && o->layer <= last) FAIL(err, MOTE_E_FORMAT, "head %zu: exits are not in the order of their layers", i);
        if (o->offset && o->offset != ahead + 1) FAIL(err, MOTE_E_FORMAT, "head %zu: Medusa heads do not tell tokens 1, 2, … ahead, one each", i);
        if (o->offset) ahead = o->offset;
        else last = o->layer;
    }
    return MOTE_OK;
}

static mote_status read_lists(heads *h, size_t n_layer, mote_error *err) {
    const kv *layer, *offset, *accuracy = NULL;
    TRY(find_list(h->file, HEADS_KEY_LAYER, 0, &layer, err));
    if (layer->count == 0 || layer->count > HEADS_MAX)
        FAIL(err, MOTE_E_LIMIT, "the file has %llu heads; expected 1 to %u", (unsigned long long)layer->count, HEADS_MAX);
    h->n = (size_t)layer->count;
    TRY(find_list(h->file, HEADS_KEY_OFFSET, h->n, &offset, err));
    if (model_file_find(h->file, HEADS_KEY_ACCURACY)) TRY(find_list(h->file, HEADS_KEY_ACCURACY, h->n, &accuracy, err));
    for (size_t i = 0; i < h->n; i++) {
        double share = -1;
        TRY(int_at(layer, i, 1, (int64_t)n_layer, &h->one[i].layer, err));
        TRY(int_at(offset, i, 0, HEADS_AHEAD_MAX, &h->one[i].offset, err));
        if (accuracy && (!kv_at_num(accuracy, i, &share) || !(share >= -1 && share <= 1)))
            FAIL(err, MOTE_E_FORMAT, "'%s' is no share for head %zu", HEADS_KEY_ACCURACY, i);
        h->one[i].accuracy = (float)share;
    }
    return check_order(h, n_layer, err);
}

/* Medusa heads of before they saw the drawn token had the form of exits. */
static mote_status check_form(const heads *h, mote_error *err) {
    str form;
    TRY(kv_get_str(h->file, HEADS_KEY_FORM, &form, STR(""), err));
    for (size_t i = 0; i < h->n; i++)
        if (h->one[i].offset && !str_is(form, HEADS_FORM_CHAIN))
            FAIL(err, MOTE_E_UNSUPPORTED, "head %zu: Medusa heads of the form '%.*s' do not see the token that was drawn; make them anew ('" HEADS_FORM_CHAIN "')", i,
                 STR_ARG(form));
    return MOTE_OK;
}

static mote_status read_tokens(heads *h, size_t n_vocab, mote_error *err) {
    int64_t last = -1, id;
    if (!model_file_find(h->file, HEADS_KEY_TOKENS)) return MOTE_OK;
    TRY(find_list(h->file, HEADS_KEY_TOKENS, 0, &h->tokens, err));
    if (h->tokens->count == 0) FAIL(err, MOTE_E_FORMAT, "'%s' is empty", HEADS_KEY_TOKENS);
    for (size_t i = 0; i < h->tokens->count; i++, last = id)
        if (!kv_at_int(h->tokens, i, &id) || id <= last || (uint64_t)id >= n_vocab)
            FAIL(err, MOTE_E_FORMAT, "'%s' is no ascending list of tokens below %zu, at %zu", HEADS_KEY_TOKENS, n_vocab, i);
    return MOTE_OK;
}

static mote_status check_all_known(const heads *h, mote_error *err) {
    size_t known = 0;
    for (size_t i = 0; i < h->n; i++) {
        const heads_one *o = &h->one[i];
        known += (o->norm != NULL) + 1u + (o->token != NULL) + (o->bias != NULL) + (o->gate != NULL);
    }
    if (known != model_file_n_tensors(h->file))
        FAIL(err, MOTE_E_UNSUPPORTED, "the heads file has %zu tensors, of which %zu are of its %zu heads", model_file_n_tensors(h->file), known, h->n);
    return MOTE_OK;
}

static mote_status read_all(heads *h, const heads_base *base, mote_error *err) {
    uint32_t n_layer, n_embd, n_vocab;
    TRY(check_base(h->file, base, err));
    TRY(kv_get_u32(h->file, HEADS_KEY_N_LAYER, &n_layer, 0, err));
    TRY(kv_get_u32(h->file, HEADS_KEY_N_EMBD, &n_embd, 0, err));
    TRY(kv_get_u32(h->file, HEADS_KEY_N_VOCAB, &n_vocab, 0, err));
    TRY(read_lists(h, n_layer, err));
    TRY(check_form(h, err));
    TRY(read_tokens(h, n_vocab, err));
    for (size_t i = 0; i < h->n; i++) TRY(read_one(h, i, n_embd, err));
    return check_all_known(h, err);
}

/* Takes the file. */
static mote_status of_file(heads **out, model_file *f, const heads_base *base, mote_error *err) {
    heads *h = MEM_NEW(heads);
    if (!h) {
        model_file_close(&f);
        FAIL(err, MOTE_E_MEMORY, "out of memory for heads");
    }
    h->file = f;
    mote_status s = read_all(h, base, err);
    if (s != MOTE_OK) heads_close(&h);
    *out = h;
    return s;
}

mote_status heads_open(heads **out, const char *path, const heads_base *base, mote_error *err) {
    model_file *f;
    *out = NULL;
    TRY(model_file_open(&f, path, 0, err));
    mote_status s = of_file(out, f, base, err);
    return s == MOTE_OK ? s : err_prefix(err, s, "%s", path);
}

mote_status heads_parse(heads **out, const unsigned char *data, size_t n, const heads_base *base, mote_error *err) {
    model_file *f;
    *out = NULL;
    TRY(gguf_parse(&f, data, n, err));
    return of_file(out, f, base, err);
}
