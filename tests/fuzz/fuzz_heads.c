/* fuzz_heads.c: any bytes as a heads file; what is read has the shapes and the finite numbers that the reader promises. */
#include "format/heads.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    memcpy(copy, data, n);
    heads *h;
    if (heads_parse(&h, copy, n, &(heads_base){.n_embd = 32}, NULL) == MOTE_OK) {
        static float x[32 * 32];
        if (h->n == 0 || h->n > HEADS_MAX) abort();
        for (size_t i = 0; i < h->n; i++) {
            heads_floats(h->one[i].weight, x);
            if (h->one[i].norm) heads_floats(h->one[i].norm, x);
            if (h->one[i].token) heads_floats(h->one[i].token, x);
            if ((h->one[i].norm == NULL) != (h->one[i].offset > 1) || (h->one[i].token == NULL) != (h->one[i].offset == 0)) abort();
            if (h->one[i].bias) heads_floats(h->one[i].bias, x);
        }
        int64_t last = -1, id;
        for (size_t i = 0; h->tokens && i < h->tokens->count; i++, last = id)
            if (!kv_at_int(h->tokens, i, &id) || id <= last) abort();
        heads_close(&h);
    } else if (h) abort();
    free(copy);
    return 0;
}
