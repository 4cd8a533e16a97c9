/* load.c: opening and closing a model. */
#include "format/heads.h"
#include "model/bind.h"

#include <sys/mman.h>


#define MODEL_META_BYTES_MAX ((size_t)1 << 30) /* f32 copies of norms, convolutions, biases */

/* ---- the table of architectures ---- */
#define ARCH(id) extern const arch arch_##id;
#include "model/archs.def"
#undef ARCH

static const arch *const archs[] = {
#define ARCH(id) &arch_##id,
#include "model/archs.def"
#undef ARCH
};

const arch *arch_find(str name) {
    for (size_t i = 0; i < COUNT_OF(archs); i++)
        if (str_is(name, archs[i]->name)) return archs[i];
    return NULL;
}

static mote_status find_arch(model *m, mote_error *err) {
    str name;
    TRY(kv_get_str(m->file, "general.architecture", &name, STR(""), err));
    if (name.n == 0) FAIL(err, MOTE_E_FORMAT, "the file does not say its architecture (key 'general.architecture')");
    m->arch = arch_find(name);
    if (!m->arch) FAIL(err, MOTE_E_UNSUPPORTED, "architecture '%.*s' is not supported", STR_ARG(name));
    return MOTE_OK;
}

/* ---- tensors that belong to the whole model ---- */
/* The embedding, in up to four parts of rows (format/stack.c). */
static mote_status bind_embedding(model *m, mote_error *err) {
    static const role parts[] = {R_TOKEN_EMBD, R_TOKEN_EMBD_2, R_TOKEN_EMBD_3, R_TOKEN_EMBD_4};
    weight *above = NULL;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        weight *w = m->slots[parts[i]].mat;
        if (!w && i > 0) break; /* one below a gap is a tensor without use, which is refused */
        TRY(bind_model_mat(m, parts[i], m->hp.n_embd, w ? w->rows : m->hp.n_vocab, true, err));
        if (i > 0 && (m->slots[parts[i]].bias || m->slots[parts[i]].scale || m->slots[R_TOKEN_EMBD].bias || m->slots[R_OUTPUT].info))
            FAIL(err, MOTE_E_UNSUPPORTED, "an embedding in parts with a bias, a scale or an output matrix beside it");
        if (above) above->below = w;
        above = w;
    }
    return MOTE_OK;
}

static mote_status bind_globals(model *m, mote_error *err) {
    hparams *h = &m->hp;
    TRY(bind_embedding(m, err));
    TRY(bind_model_vec(m, R_TOKEN_EMBD_NORM, h->n_embd, false, err));
    TRY(bind_model_vec(m, R_OUTPUT_NORM, h->n_embd, false, err));
    TRY(bind_model_mat(m, R_OUTPUT, h->n_embd, h->n_vocab, false, err));
    if (m->slots[R_POSITION_EMBD].info) {
        TRY(bind_model_mat(m, R_POSITION_EMBD, h->n_embd, m->slots[R_POSITION_EMBD].mat->rows, true, err));
        if (m->slots[R_POSITION_EMBD].mat->rows < h->n_ctx_train)
            FAIL(err, MOTE_E_MISMATCH, "tensor 'position_embd.weight' has %zu rows, the context length is %zu", m->slots[R_POSITION_EMBD].mat->rows, h->n_ctx_train);
    }
    if (m->slots[R_TOKEN_TYPES].info) TRY(bind_model_mat(m, R_TOKEN_TYPES, h->n_embd, m->slots[R_TOKEN_TYPES].mat->rows, true, err));
    /* a classifier's head (Qwen3 rerankers carry one): read by the embedding functions */
    m->slots[R_CLS].used = m->slots[R_CLS_OUT].used = true;
    if (hp_has(m, "attention.kind")) TRY(bind_model_vec(m, R_ATTN_KINDS, h->n_layer, true, err));
    size_t half = h->rope_all.n_rot / 2;
    TRY(bind_model_vec(m, R_ROPE_FREQS, half, false, err));
    TRY(bind_model_vec(m, R_ROPE_LONG, half, false, err));
    TRY(bind_model_vec(m, R_ROPE_SHORT, half, false, err));
    h->rope_all.factors = m->slots[R_ROPE_FREQS].info ? m->slots[R_ROPE_FREQS].vec : m->slots[R_ROPE_SHORT].vec;
    h->rope_all.factors_long = m->slots[R_ROPE_FREQS].info ? NULL : m->slots[R_ROPE_LONG].vec;
    return MOTE_OK;
}

static mote_status bind_layers(model *m, mote_error *err) {
    hparams *h = &m->hp;
    for (size_t il = 0; il < h->n_layer; il++) {
        layer *l = &m->layers[il];
        static const role norms[] = {R_ATTN_NORM, R_ATTN_NORM_2, R_ATTN_POST_NORM, R_ATTN_OUT_NORM, R_FFN_NORM, R_FFN_POST_NORM, R_LAYER_OUT_NORM};
        for (size_t i = 0; i < COUNT_OF(norms); i++) TRY(bind_vec(l, norms[i], h->n_embd, false, err));
        if (l->kind != ATTN_SOFTMAX && l->mixer[0] != &block_attn && l->mixer[1] != &block_attn)
            FAIL(err, MOTE_E_FORMAT, "key '%s.attention.kind' is for attention, and layer %zu has none", m->arch->name, il);
        if (l->swa && h->n_swa == 0) FAIL(err, MOTE_E_FORMAT, "layer %zu is windowed, but key '%s.attention.sliding_window' is missing", il, m->arch->name);
        const block_ops *blocks[PLACES] = {l->mixer[0], l->mixer[1], l->ffn};
        for (int which = 0; which < PLACES; which++) {
            if (!blocks[which]) continue;
            TRY(blocks[which]->bind(m, l, which, err));
            l->state_offset[which] = m->state_bytes;
            if (!ckd_add_size(&m->state_bytes, m->state_bytes, (l->state_bytes[which] + 63) & ~(size_t)63))
                FAIL(err, MOTE_E_RANGE, "the recurrent state is too large");
        }
    }
    return MOTE_OK;
}

/* What a layer is made of, where the architecture's setup has not said: its default mixer, and experts or a dense
 * feed-forward by the tensors that are there. */
static void plan_layers(model *m) {
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        layer *l = &m->layers[il];
        if (!l->mixer[0] && (has(l, R_ATTN_Q) || has(l, R_ATTN_QKV) || m->arch->mixer)) l->mixer[0] = m->arch->mixer ? m->arch->mixer : &block_attn;
        if (l->ffn) continue;
        if (has(l, R_FFN_GATE_INP)) l->ffn = &block_moe;
        else if (has(l, R_FFN_UP)) l->ffn = &block_ffn;
    }
}

static mote_status pack(model *m, pool *p, mote_error *err) {
    for (size_t i = 0; i < m->n_weights; i++) {
        weight *w = m->weights[i];
        /* looked up row by row, never multiplied */
        bool rows_only = (w == m->slots[R_TOKEN_EMBD].mat && m->slots[R_OUTPUT].info) || w == m->slots[R_POSITION_EMBD].mat ||
                         w == m->slots[R_TOKEN_TYPES].mat || (w == m->slots[R_TOKEN_EMBD].mat && !m->hp.causal);
        w->head = !m->slots[R_TOKEN_EMBD_2].mat && w == m->slots[m->slots[R_OUTPUT].info ? R_OUTPUT : R_TOKEN_EMBD].mat && m->hp.causal;
        if (!rows_only) TRY(weight_plan(w, m->kern, err));
        m->info.packed_bytes += w->packed_bytes;
        m->info.weight_bytes += w->mat_bytes * w->n_mat;
        m->info.resident_bytes += w->packing ? w->packed_bytes : w->mat_bytes * w->n_mat;
    }
    m->packer = ARENA_NEW(&m->mem, weight_packer);
    m->use = ARENA_NEW(&m->mem, struct model_use);
    if (!m->packer || !m->use) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(weights_reserve(m->packer, m->weights, m->n_weights, p, err));
    if (m->opts.mlock) model_warm(m, p); /* what is locked must be there */
    return MOTE_OK;
}

void model_warm(const model *m, pool *p) { weights_pack(m->packer, p); }
bool model_is_warm(const model *m) { return m->packer->done; }

/* What the kernels read of a weight: its panels, or the file's rows. */
static const void *resident(const weight *w, size_t *bytes) {
    *bytes = w->packed ? w->packed_bytes : w->mat_bytes * w->n_mat;
    return w->packed ? w->packed : (const void *)w->data;
}

/* Keeps weights from being swapped out (--mlock). What the system refuses to lock is said, and used unlocked. */
static void lock_weights(const model *m) {
    size_t refused = 0, bytes;
    for (size_t i = 0; i < m->n_weights; i++) {
        const void *p = resident(m->weights[i], &bytes);
        if (mlock(p, bytes) != 0) refused += bytes;
    }
    if (refused)
        log_line(m->opts.log, LOG_WARN, "%zu MB of weights could not be locked in memory; raise the limit with ulimit -l", refused >> 20);
}

static void unlock_weights(const model *m) {
    size_t bytes;
    for (size_t i = 0; i < m->n_weights; i++) {
        const void *p = resident(m->weights[i], &bytes);
        (void)munlock(p, bytes);
    }
}

static void fill_info(model *m) {
    model_info *i = &m->info;
    str name = {0};
    (void)kv_get_str(m->file, "general.name", &name, STR(""), NULL);
    i->arch = m->arch->name;
    i->name = arena_dup(&m->mem, name);
    if (!i->name) i->name = "";
    i->rung = tensor_kernels_rung(m->kern);
    i->n_layer = m->hp.n_layer;
    i->n_embd = i->n_embd_out = m->hp.n_embd;
    i->n_vocab = m->hp.n_vocab;
    i->n_ctx_train = m->hp.n_ctx_train;
    i->file_bytes = model_file_bytes(m->file);
    i->causal = m->hp.causal;
    i->pooling = m->hp.pooling;
    i->can_shift = true;
    for (size_t t = 0; t < model_file_n_tensors(m->file); t++) {
        const uint64_t *ne = model_file_tensor(m->file, t)->ne;
        i->n_params += ne[0] * ne[1] * ne[2] * ne[3];
    }
    for (size_t il = 0; il < m->hp.n_layer; il++) {
        const layer *l = &m->layers[il];
        for (int w = 0; w < 2; w++) {
            if (l->state_bytes[w]) i->recurrent = true;
            if (l->mixer[w] && (l->mixer[w] != &block_attn || l->kind != ATTN_SOFTMAX)) i->can_shift = false;
        }
        if (layer_window(m, l) && l->kv_index != SIZE_MAX) i->windowed = true;
    }
    if (i->recurrent || i->windowed || m->slots[R_POSITION_EMBD].info || !i->causal) i->can_shift = false;
}

static mote_status open_parts(model *m, const char *path, pool *p, mote_error *err) {
    TRY(model_file_open(&m->file, path, (m->opts.no_mmap ? MODEL_FILE_NO_MMAP : 0) | (m->opts.stacked ? MODEL_FILE_STACKED : 0), err));
    TRY(find_arch(m, err));
    TRY(hparams_read(m, err));
    TRY(bind_tensors(m, err));
    plan_layers(m);
    TRY(bind_globals(m, err));
    TRY(bind_layers(m, err));
    TRY(bind_scaled_biases(m, err));
    TRY(bind_check_all_used(m, err));
    TRY(bind_adapters(m, err));
    TRY(bind_heads(m, err));
    uint32_t mask = m->opts.cpu_mask == CPU_SCALAR_ONLY ? 0 : m->opts.cpu_mask ? m->opts.cpu_mask : CPU_ALL;
    m->kern = tensor_kernels_open(mask);
    if (!m->kern) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(pack(m, p, err));
    if (m->opts.mlock) lock_weights(m);
    fill_info(m);
    return MOTE_OK;
}

mote_status model_open(model **out, const char *path, const model_opts *o, pool *p, mote_error *err) {
    *out = NULL;
    model *m = MEM_NEW(model);
    if (!m) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (o) m->opts = *o;
    arena_init(&m->mem, MODEL_META_BYTES_MAX);
    mote_status s = open_parts(m, path, p, err);
    m->opts.adapters = NULL; /* the caller's, no longer */
    m->opts.heads = NULL;
    m->opts.n_adapters = 0;
    if (s != MOTE_OK) {
        model_close(&m);
        return err_prefix(err, s, "%s", path);
    }
    *out = m;
    return MOTE_OK;
}

void model_close(model **mp) {
    model *m = *mp;
    if (!m) return;
    if (m->opts.mlock) unlock_weights(m);
    if (m->packer) weights_free(m->packer);
    tensor_kernels_close(&m->kern);
    heads_close(&m->heads_file);
    model_file_close(&m->file);
    arena_free(&m->mem);
    mem_free(m);
    *mp = NULL;
}

const model_info *model_get_info(const model *m) { return &m->info; }
const model_file *model_get_file(const model *m) { return m->file; }
