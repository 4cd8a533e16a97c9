/* fuzz_gguf.c: any bytes as a GGUF. What parses must be readable to its last byte. */
#include "format/format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned touch(const model_file *f) {
    unsigned sum = 0;
    for (size_t i = 0; i < model_file_n_tensors(f); i++) {
        const tensor_info *t = model_file_tensor(f, i);
        if (t->size) sum += t->data[0] + t->data[t->size - 1];
    }
    for (size_t i = 0; i < model_file_n_kv(f); i++) {
        const kv *k = model_file_kv(f, i);
        for (uint64_t j = 0; j < k->count; j++) {
            double d;
            if (kv_at_num(k, j, &d)) sum += d > 0;
            str s = kv_at_str(k, j);
            if (s.n) sum += (unsigned char)s.p[s.n - 1];
        }
        if (k->type == KV_STRING && k->s.n) sum += (unsigned char)k->s.p[k->s.n - 1];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    memcpy(copy, data, n);
    model_file *f;
    volatile unsigned sum = 0;
    if (gguf_parse(&f, copy, n, NULL) == MOTE_OK) sum = touch(f);
    (void)sum;
    model_file_close(&f);
    free(copy);
    return 0;
}
