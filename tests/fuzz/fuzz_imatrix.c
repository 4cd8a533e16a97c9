/* fuzz_imatrix.c: any bytes as an importance matrix, GGUF or .dat; what is read is finite in number, and can be averaged. */
#include "compress/importance.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    unsigned char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    memcpy(copy, data, n);
    imatrix m = {0};
    if (imatrix_parse(&m, copy, n, "fuzz", 0, NULL) == MOTE_OK) {
        for (size_t i = 0; i < m.n; i++) {
            float *means = malloc(m.entries[i].n_values * sizeof *means);
            if (means) imatrix_means(&m.entries[i], means);
            free(means);
            if (imatrix_find(&m, str_of(m.entries[i].name)) != &m.entries[i]) abort();
        }
    }
    imatrix_free(&m);
    free(copy);
    return 0;
}
