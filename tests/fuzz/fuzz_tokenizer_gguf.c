/* fuzz_tokenizer_gguf.c: any bytes as a GGUF with a vocabulary; what opens must encode and decode. */
#include "token/token.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char odd[] = "Hello, wo\xCC\x81rld's <s>  42 \n\n\t\xE4\xB8\xAD\xF0\x9F\x98\x80\xFF\xC3 \xE2\x96\x81x<|e|>";
    model_file *f = NULL;
    tok_vocab *v = NULL;
    tok_ids ids = {0};
    buf back;
    unsigned char *copy = malloc(n ? n : 1);
    if (!copy) return 0;
    memcpy(copy, data, n);
    buf_init(&back, (size_t)1 << 20);
    if (gguf_parse(&f, copy, n, NULL) == MOTE_OK && tok_open(&v, f, NULL, NULL) == MOTE_OK) {
        for (int flags = 0; flags < 4; flags++)
            if (tok_encode(v, STR(odd), flags, &ids, NULL) != MOTE_OK) break;
        for (size_t i = 0; i < ids.n; i++)
            if (ids.p[i] < 0 || (size_t)ids.p[i] >= tok_count(v)) abort();
        (void)tok_detokenize(v, ids.p, ids.n, TOK_SPECIAL | TOK_TRIM, &back, NULL);
    }
    tok_close(&v);
    model_file_close(&f);
    tok_ids_free(&ids);
    buf_free(&back);
    free(copy);
    return 0;
}
