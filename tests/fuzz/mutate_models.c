/* mutate_models.c: model files made hostile: each architecture's golden file, changed at random in its metadata and
 * tensor descriptions, is opened and, when that succeeds, run for a few tokens. Any status is fine; a crash, a hang
 * or a sanitizer's report is not. The seed is printed: mutate_models SEED repeats a run.
 *
 *   mutate_models [SEED [ROUNDS]] */
#include "model/model.h"
#include "oracle/oracle_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS_DEFAULT = 12, TOKENS = 6, HEADER_MAX = 24 << 10 };

static const uint32_t extremes[] = {0, 1, 2, 3, 7, 0x7f, 0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x7f800000, 0x7fc00000};

/* Changes 1 to 4 places of the header: single bytes, or 32-bit words to values that hurt. */
static void mutate(unsigned char *p, size_t n, rng *r) {
    size_t header = MIN(n, HEADER_MAX);
    for (uint32_t k = 1 + rng_below(r, 4); k > 0; k--) {
        size_t at = rng_below(r, (uint32_t)header);
        if (rng_below(r, 3) == 0 || at + 4 > n) p[at] = (unsigned char)rng_u32(r);
        else memcpy(p + at, &extremes[rng_below(r, COUNT_OF(extremes))], 4);
    }
}

/* Finds a metadata value by its key and changes just that: this gets past the parser. */
static void mutate_value(unsigned char *p, size_t n, const model_file *f, rng *r) {
    const kv *k = model_file_kv(f, rng_below(r, (uint32_t)model_file_n_kv(f)));
    size_t at = (size_t)((const unsigned char *)k->key.p - p) + k->key.n + 4;
    if (k->type == KV_STRING || at + 4 > n) return;
    memcpy(p + at, &extremes[rng_below(r, COUNT_OF(extremes))], k->type == KV_BOOL ? 1 : 4);
}

static mote_status use(const char *path, pool *p, mote_error *err) {
    model *m;
    state *s = NULL;
    TRY(model_open(&m, path, NULL, p, err));
    size_t vocab = model_get_info(m)->n_vocab;
    state_opts o = {.n_ctx = 64, .n_seq = 1, .n_batch = TOKENS, .k_type = QUANT_F16, .v_type = QUANT_F16};
    float *logits = mem_calloc(vocab, sizeof *logits);
    mote_status st = logits ? state_open(&s, m, &o, p, err) : MOTE_E_MEMORY;
    if (st == MOTE_OK) {
        int32_t ids[TOKENS] = {0}, want = TOKENS - 1;
        model_seg seg = {.n = TOKENS};
        model_batch b = {.ids = ids, .n = TOKENS, .segs = &seg, .n_segs = 1, .want = &want, .n_want = 1, .logits = logits};
        st = model_forward(s, &b, err);
    }
    mem_free(logits);
    state_close(&s);
    model_close(&m);
    return st;
}

static bool write_file(int fd, const unsigned char *p, size_t n) {
    return ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n;
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : ROUNDS_DEFAULT;
    char tmp[] = "/tmp/mote-mutate-XXXXXX", path[4096];
    mote_error err = {0};
    rng r;
    pool *p;
    int fd = mkstemp(tmp);
    size_t opened = 0, refused = 0;
    json_t *ids = oracle_json("arch/ids.json");
    const char *name;
    json_t *v;
    rng_seed(&r, seed, 0);
    if (fd < 0 || pool_open(&p, 1, &err) != MOTE_OK) return 1;
    json_object_foreach(ids, name, v) {
        file_map src;
        if (file_open(&src, oracle_path(path, "arch/%s.gguf", name), FILE_READ, &err) != MOTE_OK) return 1;
        unsigned char *copy = mem_calloc(src.n, 1);
        model_file *f;
        for (int i = 0; copy && i < rounds; i++) {
            memcpy(copy, src.p, src.n);
            if (i % 3 && gguf_parse(&f, copy, src.n, &err) == MOTE_OK) {
                mutate_value(copy, src.n, f, &r);
                model_file_close(&f);
            } else mutate(copy, src.n, &r);
            if (!write_file(fd, copy, src.n)) return 1;
            if (use(tmp, p, &err) == MOTE_OK) opened++;
            else refused++;
        }
        mem_free(copy);
        file_close(&src);
    }
    json_decref(ids);
    pool_close(&p);
    close(fd);
    unlink(tmp);
    printf("seed %llu: %zu ran, %zu were refused\n", (unsigned long long)seed, opened, refused);
    return 0;
}
