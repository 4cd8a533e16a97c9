/* fuzz_distil_cache.c: any bytes as a file of a teacher's likeliest tokens. What opens can be read to its end, or is refused. */
#include "train/distil_cache.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_one(const distil_cache *c, size_t i) {
    size_t tokens, records, k = distil_cache_about(c)->k;
    distil_cache_size(c, i, &tokens, &records);
    int32_t *t = calloc(tokens, sizeof *t);
    bool *counts = calloc(tokens, sizeof *counts);
    uint32_t *ids = calloc(records * k + 1, sizeof *ids);
    float *logp = calloc(records * k + 1, sizeof *logp), *rest = calloc(records + 1, sizeof *rest);
    if (t && counts && ids && logp && rest) (void)distil_cache_read(c, i, t, counts, ids, logp, rest, NULL);
    free(t);
    free(counts);
    free(ids);
    free(logp);
    free(rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    if (n) memcpy(copy, data, n);
    distil_cache *c;
    if (distil_cache_parse(&c, copy, n, NULL) == MOTE_OK) {
        for (size_t i = 0; i < distil_cache_about(c)->n_seqs; i++) read_one(c, i);
        distil_cache_close(&c);
    }
    free(copy);
    return 0;
}
