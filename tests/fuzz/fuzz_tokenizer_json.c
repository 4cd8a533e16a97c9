/* fuzz_tokenizer_json.c: any bytes as a tokenizer.json; what opens must encode and decode. */
#include "token/token.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const tok_vocab *v, str text) {
    tok_ids ids = {0};
    buf back;
    buf_init(&back, (size_t)1 << 20);
    for (int flags = 0; flags < 4; flags++)
        if (tok_encode(v, text, flags, &ids, NULL) != MOTE_OK) break;
    for (size_t i = 0; i < ids.n; i++)
        if (ids.p[i] < 0 || (size_t)ids.p[i] >= tok_count(v)) abort();
    (void)tok_detokenize(v, ids.p, ids.n, TOK_SPECIAL | TOK_TRIM, &back, NULL);
    tok_stream s;
    tok_stream_init(&s, v, TOK_SPECIAL);
    for (size_t i = 0; i < ids.n; i++) tok_stream_put(&s, ids.p[i], &back);
    tok_stream_end(&s, &back);
    tok_ids_free(&ids);
    buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char odd[] = "Hello, wo\xCC\x81rld's <s>  42 \n\n\t\xE4\xB8\xAD\xF0\x9F\x98\x80\xFF\xC3 \xE2\x96\x81x<|e|>";
    tok_vocab *v;
    char *copy = malloc(n ? n : 1); /* exact size: a read beyond is seen */
    if (!copy) return 0;
    memcpy(copy, data, n);
    if (tok_open_json(&v, (str){copy, n}, (str){0}, NULL, NULL) == MOTE_OK) {
        use(v, STR(odd));
        use(v, (str){copy, n > 512 ? 512 : n});
    }
    tok_close(&v);
    free(copy);
    return 0;
}
