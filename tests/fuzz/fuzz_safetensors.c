/* fuzz_safetensors.c: any bytes as safetensors. What parses must be readable to its last byte. */
#include "format/format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    memcpy(copy, data, n);
    st_file *f;
    unsigned sum = 0;
    if (st_parse(&f, copy, n, NULL) == MOTE_OK)
        for (size_t i = 0; i < st_n_tensors(f); i++) {
            const st_tensor *t = st_tensor_at(f, i);
            if (t->size) sum += t->data[0] + t->data[t->size - 1];
        }
    volatile unsigned read = sum; /* so that the reads are made */
    (void)read;
    st_close(&f);
    free(copy);
    return 0;
}
