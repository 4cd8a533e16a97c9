/* rwkv7_test.c: RWKV-7 against a plain reference in double precision, written from the paper (Peng et al. 2025,
 * "RWKV-7 Goose", §4): no matrix is split, no product reordered. Random models are made here, written as GGUF and
 * opened as any other.
 *
 *   rwkv7_test [DIR]     DIR: where the models are left, with their ids and logits, for comparing other programs */
#include "model/model.h"
#include "oracle_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR 1e-10
enum { PARAMS_MAX = 256, N_IDS = 41, N_VOCAB = 40 };

struct sizes {
    const char *name;
    size_t n_layer, n_embd, head, n_ff, decay, iclr, value, gate;
};

/* ---- a random model ---- */
struct param {
    char name[64];
    uint64_t ne[2];
    float *v;
};
static struct param params[PARAMS_MAX];
static size_t n_params;
static rng dice;

/* out = name with its '#' replaced by the layer's number */
static void full_name(char out[64], const char *name, size_t il) {
    size_t at = strcspn(name, "#");
    if (name[at]) (void)snprintf(out, 64, "%.*s%zu%s", (int)at, name, il, name + at + 1);
    else (void)snprintf(out, 64, "%s", name);
}

static void add(float middle, float spread, uint64_t ne0, uint64_t ne1, const char *name, size_t il) {
    struct param *p = &params[n_params++];
    full_name(p->name, name, il);
    p->ne[0] = ne0;
    p->ne[1] = ne1;
    p->v = mem_calloc(ne0 * ne1, sizeof(float));
    if (!p->v) exit(1);
    for (size_t i = 0; i < ne0 * ne1; i++) p->v[i] = middle + spread * (float)(2 * rng_double(&dice) - 1);
}

static const float *get(const char *name, size_t il) {
    char full[64];
    full_name(full, name, il);
    for (size_t i = 0; i < n_params; i++)
        if (strcmp(params[i].name, full) == 0) return params[i].v;
    printf("no parameter %s\n", full);
    exit(1);
}

static void make_layer(const struct sizes *z, size_t il) {
    size_t n = z->n_embd;
    static const char *const norms[] = {"blk.#.attn_norm", "blk.#.attn_norm_2", "blk.#.time_mix_ln"};
    static const char *const squares[] = {"blk.#.time_mix_receptance.weight", "blk.#.time_mix_key.weight", "blk.#.time_mix_value.weight",
                                          "blk.#.time_mix_output.weight"};
    static const char *const vectors[] = {"blk.#.time_mix_w0.weight", "blk.#.time_mix_a0.weight", "blk.#.time_mix_k_k.weight",
                                          "blk.#.time_mix_k_a.weight", "blk.#.time_mix_r_k.weight", "blk.#.time_mix_v0.weight"};
    const struct {
        const char *down, *up;
        size_t rank;
    } loras[] = {
        {"blk.#.time_mix_w1.weight", "blk.#.time_mix_w2.weight", z->decay},
        {"blk.#.time_mix_a1.weight", "blk.#.time_mix_a2.weight", z->iclr},
        {"blk.#.time_mix_v1.weight", "blk.#.time_mix_v2.weight", il ? z->value : z->iclr},
        {"blk.#.time_mix_g1.weight", "blk.#.time_mix_g2.weight", z->gate},
    };
    char name[64];
    for (size_t i = 0; i < COUNT_OF(norms); i++) {
        (void)snprintf(name, sizeof name, "%s.weight", norms[i]);
        add(1, 0.3f, n, 1, name, il);
        (void)snprintf(name, sizeof name, "%s.bias", norms[i]);
        add(0, 0.3f, n, 1, name, il);
    }
    for (size_t i = 0; i < COUNT_OF(squares); i++) add(0, 0.25f, n, n, squares[i], il);
    for (size_t i = 0; i < COUNT_OF(vectors); i++) add(0.3f, 0.8f, n, 1, vectors[i], il);
    for (size_t i = 0; i < COUNT_OF(loras); i++) {
        add(0, 0.3f, n, loras[i].rank, loras[i].down, il);
        add(0, 0.5f, loras[i].rank, n, loras[i].up, il);
    }
    add(0.5f, 0.5f, n, 6, "blk.#.time_mix_lerp_fused.weight", il);
    add(0.5f, 0.5f, n, 1, "blk.#.channel_mix_lerp_k.weight", il);
    add(0, 0.3f, n, z->n_ff, "blk.#.channel_mix_key.weight", il);
    add(0, 0.3f, z->n_ff, n, "blk.#.channel_mix_value.weight", il);
}

static void make_model(const struct sizes *z) {
    rng_seed(&dice, 7, z->n_embd);
    n_params = 0;
    add(0, 1, z->n_embd, N_VOCAB, "token_embd.weight", 0);
    add(1, 0.3f, z->n_embd, 1, "token_embd_norm.weight", 0);
    add(0, 0.3f, z->n_embd, 1, "token_embd_norm.bias", 0);
    add(1, 0.3f, z->n_embd, 1, "output_norm.weight", 0);
    add(0, 0.3f, z->n_embd, 1, "output_norm.bias", 0);
    add(0, 0.3f, z->n_embd, N_VOCAB, "output.weight", 0);
    for (size_t il = 0; il < z->n_layer; il++) make_layer(z, il);
}

static mote_status write_model(const struct sizes *z, const char *path, mote_error *err) {
    const struct {
        const char *key;
        size_t v;
    } keys[] = {
        {"rwkv7.context_length", 1048576}, {"rwkv7.embedding_length", z->n_embd}, {"rwkv7.block_count", z->n_layer},
        {"rwkv7.feed_forward_length", z->n_ff}, {"rwkv7.wkv.head_size", z->head}, {"rwkv7.attention.decay_lora_rank", z->decay},
        {"rwkv7.attention.iclr_lora_rank", z->iclr}, {"rwkv7.attention.value_residual_mix_lora_rank", z->value},
        {"rwkv7.attention.gate_lora_rank", z->gate}, {"rwkv7.attention.head_count", 0}, {"rwkv7.token_shift_count", 2},
    };
    gguf_writer *w = NULL;
    mote_status s;
    TRYG(s, gguf_writer_open(&w, path, 0, err));
    TRYG(s, gguf_put_str(w, "general.architecture", STR("rwkv7"), err));
    TRYG(s, gguf_put_str(w, "tokenizer.ggml.model", STR("no_vocab"), err));
    TRYG(s, gguf_put_u32(w, "rwkv7.vocab_size", N_VOCAB, err));
    TRYG(s, gguf_put_f32(w, "rwkv7.attention.layer_norm_epsilon", 1e-5f, err));
    for (size_t i = 0; i < COUNT_OF(keys); i++) TRYG(s, gguf_put_u32(w, keys[i].key, (uint32_t)keys[i].v, err));
    for (size_t i = 0; i < n_params; i++) {
        const struct param *p = &params[i];
        bool lerp = strstr(p->name, "lerp_fused") != NULL;
        uint64_t ne[4] = {p->ne[0], lerp ? 1 : p->ne[1], 1, p->ne[1]};
        TRYG(s, gguf_put_tensor(w, str_of(p->name), QUANT_F32, lerp ? 4 : p->ne[1] > 1 ? 2 : 1, ne, err));
    }
    TRYG(s, gguf_writer_begin(w, err));
    for (size_t i = 0; i < n_params; i++) TRYG(s, gguf_write_data(w, params[i].v, params[i].ne[0] * params[i].ne[1] * sizeof(float), err));
    s = gguf_writer_commit(w, err);
out:
    gguf_writer_close(&w);
    return s;
}

/* ---- the reference ---- */
typedef double vec[256];

/* y = W x */
static void mul(double *y, const float *w, const double *x, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (size_t c = 0; c < cols; c++) y[r] += (double)w[r * cols + c] * x[c];
    }
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void layer_norm(double *y, const double *x, size_t n, const float *w, const float *b, double eps) {
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mean) / sqrt(var + eps) * (double)w[i] + (double)b[i];
}

static void lerp(double *y, const double *x, const double *last, const float *mu, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] + (last[i] - x[i]) * (double)mu[i];
}

enum { AS_IS, TANH, SIGMOID };
static void lora(double *y, const char *down, const char *up, const char *base, size_t il, const double *x, size_t n, size_t rank, int act) {
    vec mid;
    mul(mid, get(down, il), x, rank, n);
    for (size_t i = 0; i < rank; i++) mid[i] = act == TANH ? tanh(mid[i]) : act == SIGMOID ? sigmoid(mid[i]) : mid[i];
    mul(y, get(up, il), mid, n, rank);
    for (size_t i = 0; base && i < n; i++) y[i] += (double)get(base, il)[i];
}

struct past { /* of one layer */
    vec time_x, channel_x;
    double s[256][64]; /* row: value channel of its head; column: key channel */
};

static void time_mix(const struct sizes *z, size_t il, const double *x, struct past *p, double *v0, double *out) {
    size_t n = z->n_embd, m = z->head;
    const float *mu = get("blk.#.time_mix_lerp_fused.weight", il);
    vec xr, xw, xk, xv, xa, xg, r, d, k, v, nu, a, g, kappa, y;
    double *mixes[6] = {xr, xw, xk, xv, xa, xg};
    for (size_t i = 0; i < 6; i++) lerp(mixes[i], x, p->time_x, mu + i * n, n);
    memcpy(p->time_x, x, n * sizeof *x);
    mul(r, get("blk.#.time_mix_receptance.weight", il), xr, n, n);
    mul(k, get("blk.#.time_mix_key.weight", il), xk, n, n);
    mul(v, get("blk.#.time_mix_value.weight", il), xv, n, n);
    lora(d, "blk.#.time_mix_w1.weight", "blk.#.time_mix_w2.weight", "blk.#.time_mix_w0.weight", il, xw, n, z->decay, TANH);
    lora(a, "blk.#.time_mix_a1.weight", "blk.#.time_mix_a2.weight", "blk.#.time_mix_a0.weight", il, xa, n, z->iclr, AS_IS);
    lora(g, "blk.#.time_mix_g1.weight", "blk.#.time_mix_g2.weight", NULL, il, xg, n, z->gate, SIGMOID);
    if (il == 0) memcpy(v0, v, n * sizeof *v);
    else lora(nu, "blk.#.time_mix_v1.weight", "blk.#.time_mix_v2.weight", "blk.#.time_mix_v0.weight", il, xv, n, z->value, AS_IS);
    for (size_t i = 0; i < n; i++) {
        a[i] = sigmoid(a[i]);
        if (il) v[i] += (v0[i] - v[i]) * sigmoid(nu[i]);
        kappa[i] = k[i] * (double)get("blk.#.time_mix_k_k.weight", il)[i];
        k[i] *= 1 + (a[i] - 1) * (double)get("blk.#.time_mix_k_a.weight", il)[i];
    }
    for (size_t h = 0; h < n; h += m) {
        double norm = 0, bonus = 0;
        for (size_t j = h; j < h + m; j++) norm += kappa[j] * kappa[j];
        for (size_t j = h; j < h + m; j++) kappa[j] /= sqrt(norm);
        for (size_t i = h; i < h + m; i++) {
            double *s = p->s[i], removed = 0;
            for (size_t j = 0; j < m; j++) removed += s[j] * kappa[h + j];
            y[i] = 0;
            for (size_t j = 0; j < m; j++) {
                s[j] = s[j] * exp(-exp(-0.5) * sigmoid(d[h + j])) - removed * a[h + j] * kappa[h + j] + v[i] * k[h + j];
                y[i] += s[j] * r[h + j];
            }
        }
        layer_norm(y + h, y + h, m, get("blk.#.time_mix_ln.weight", il) + h, get("blk.#.time_mix_ln.bias", il) + h, 64e-5);
        for (size_t j = h; j < h + m; j++) bonus += r[j] * k[j] * (double)get("blk.#.time_mix_r_k.weight", il)[j];
        for (size_t j = h; j < h + m; j++) y[j] = (y[j] + bonus * v[j]) * g[j];
    }
    mul(out, get("blk.#.time_mix_output.weight", il), y, n, n);
}

static void channel_mix(const struct sizes *z, size_t il, const double *x, struct past *p, double *out) {
    vec mixed, k;
    lerp(mixed, x, p->channel_x, get("blk.#.channel_mix_lerp_k.weight", il), z->n_embd);
    memcpy(p->channel_x, x, z->n_embd * sizeof *x);
    mul(k, get("blk.#.channel_mix_key.weight", il), mixed, z->n_ff, z->n_embd);
    for (size_t i = 0; i < z->n_ff; i++) k[i] = k[i] > 0 ? k[i] * k[i] : 0;
    mul(out, get("blk.#.channel_mix_value.weight", il), k, z->n_embd, z->n_ff);
}

static void reference(const struct sizes *z, const int32_t *ids, float *logits) {
    struct past *past = mem_calloc(z->n_layer, sizeof *past);
    vec x, normed, out, v0;
    size_t n = z->n_embd;
    if (!past) exit(1);
    for (size_t t = 0; t < N_IDS; t++) {
        for (size_t i = 0; i < n; i++) x[i] = (double)get("token_embd.weight", 0)[(size_t)ids[t] * n + i];
        layer_norm(x, x, n, get("token_embd_norm.weight", 0), get("token_embd_norm.bias", 0), 1e-5);
        for (size_t il = 0; il < z->n_layer; il++) {
            layer_norm(normed, x, n, get("blk.#.attn_norm.weight", il), get("blk.#.attn_norm.bias", il), 1e-5);
            time_mix(z, il, normed, &past[il], v0, out);
            for (size_t i = 0; i < n; i++) x[i] += out[i];
            layer_norm(normed, x, n, get("blk.#.attn_norm_2.weight", il), get("blk.#.attn_norm_2.bias", il), 1e-5);
            channel_mix(z, il, normed, &past[il], out);
            for (size_t i = 0; i < n; i++) x[i] += out[i];
        }
        layer_norm(normed, x, n, get("output_norm.weight", 0), get("output_norm.bias", 0), 1e-5);
        mul(out, get("output.weight", 0), normed, N_VOCAB, n);
        for (size_t i = 0; i < N_VOCAB; i++) logits[t * N_VOCAB + i] = (float)out[i];
    }
    mem_free(past);
}

/* ---- ours ---- */
/* In pieces of at most `piece` tokens; with `company`, a second sequence runs in front of it in every batch. */
static mote_status run(const model *m, pool *p, const int32_t *ids, size_t piece, bool company, float *logits, mote_error *err) {
    state_opts o = {.n_ctx = 64, .n_seq = 2, .n_batch = N_IDS + 3, .k_type = QUANT_F32, .v_type = QUANT_F32, .exact = true};
    state *s;
    TRY(state_open(&s, m, &o, p, err));
    mote_status st = MOTE_OK;
    for (size_t at = 0, other = 0; at < N_IDS && st == MOTE_OK; at += piece) {
        int32_t batch[N_IDS + 3], want[N_IDS];
        size_t k = MIN(piece, N_IDS - at), extra = company ? 1 + at % 3 : 0;
        for (size_t i = 0; i < extra; i++) batch[i] = (int32_t)((at + 5 * i) % N_VOCAB);
        memcpy(batch + extra, ids + at, k * sizeof *ids);
        for (size_t i = 0; i < k; i++) want[i] = (int32_t)(extra + i);
        model_seg segs[2] = {{.seq = 0, .pos0 = other, .n = extra}, {.seq = 1, .pos0 = at, .n = k}};
        model_batch b = {.ids = batch, .n = extra + k, .segs = company ? segs : segs + 1, .n_segs = company ? 2 : 1, .want = want, .n_want = k,
                         .logits = logits + at * N_VOCAB};
        st = model_forward(s, &b, err);
        other += extra;
    }
    state_close(&s);
    return st;
}

static mote_status check(const char *path, const int32_t *ids, const float *ref, double *nmse, bool *equal, mote_error *err) {
    pool *p1 = NULL, *p3 = NULL;
    model *m = NULL;
    mote_status s;
    float a[N_IDS * N_VOCAB], b[N_IDS * N_VOCAB];
    TRYG(s, pool_open(&p1, 1, err));
    TRYG(s, pool_open(&p3, 3, err));
    TRYG(s, model_open(&m, path, NULL, p1, err));
    TRYG(s, run(m, p1, ids, N_IDS, false, a, err));
    *nmse = oracle_nmse(a, ref, COUNT_OF(a));
    *equal = true;
    for (int i = 0; i < 4; i++) {
        TRYG(s, run(m, i < 2 ? p3 : p1, ids, i % 2 ? 6 : N_IDS, i == 1 || i == 3, b, err));
        *equal = *equal && memcmp(a, b, sizeof a) == 0;
    }
out:
    model_close(&m);
    pool_close(&p1);
    pool_close(&p3);
    return s;
}

static void leave(const char *folder, const char *name, const int32_t *ids, const float *ref) {
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s.f32", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(ref, sizeof *ref, N_IDS * N_VOCAB, f) != N_IDS * N_VOCAB) printf("%s: not written\n", path);
    if (f) (void)fclose(f);
    for (size_t i = 0; i < N_IDS; i++) printf("%d%s", ids[i], i + 1 < N_IDS ? "," : "\n");
}

int main(int argc, char **argv) {
    static const struct sizes all[] = {
        {"rwkv7-heads-of-16", 3, 48, 16, 80, 8, 7, 5, 9},
        {"rwkv7-heads-of-24", 2, 72, 24, 96, 12, 8, 6, 16},
        {"rwkv7-heads-of-64", 2, 128, 64, 160, 32, 32, 16, 32},
    };
    char temp[] = "/tmp/mote_rwkv7_XXXXXX", path[4096];
    const char *folder = argc > 1 ? argv[1] : mkdtemp(temp);
    static float ref[N_IDS * N_VOCAB];
    int failed = 0;
    if (!folder) return 1;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        mote_error err = {0};
        int32_t ids[N_IDS];
        double nmse = HUGE_VAL;
        bool equal = false;
        make_model(&all[i]);
        for (size_t t = 0; t < N_IDS; t++) ids[t] = (int32_t)rng_below(&dice, N_VOCAB);
        (void)snprintf(path, sizeof path, "%s/%s.gguf", folder, all[i].name);
        reference(&all[i], ids, ref);
        mote_status s = write_model(&all[i], path, &err);
        if (s == MOTE_OK) s = check(path, ids, ref, &nmse, &equal, &err);
        bool ok = s == MOTE_OK && nmse <= BAR && equal;
        if (s != MOTE_OK) printf("FAIL %-20s %s\n", all[i].name, err.message);
        else printf("%s %-20s nmse %.2e%s\n", ok ? "ok  " : "FAIL", all[i].name, nmse, equal ? "" : " depends on batch or threads");
        failed += !ok;
        if (argc > 1) leave(folder, all[i].name, ids, ref);
        else (void)unlink(path);
        for (size_t j = 0; j < n_params; j++) mem_free(params[j].v);
    }
    if (argc <= 1) (void)rmdir(folder);
    return failed != 0;
}
