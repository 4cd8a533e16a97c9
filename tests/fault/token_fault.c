/* token_fault.c: opening the vocabularies of the fuzz corpus, encoding and decoding, with the n-th allocation failing,
 * once and from then on, for every n until all succeeds: a clean status and no leak. */
#include "fault.h"
#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>

/* jansson does not survive a failing allocation inside a string longer than 16 bytes (its lexer ignores the failure and
 * then asserts or writes past its buffer), and these files are full of such strings: it allocates undisturbed. */
void *__real_malloc(size_t n);
void __real_free(void *p);

static mote_status use(const tok_vocab *v, mote_error *err) {
    static const char text[] = "Hello, world's 42  \n\nhellohellohellohellohellohellohellohello \xE4\xB8\xAD\xFF<|e|> hello";
    tok_span spans[] = {{STR("<|e|>"), true}, {STR(text), false}};
    tok_ids ids = {0};
    buf back;
    mote_status s;
    buf_init(&back, 1 << 16);
    TRYG(s, tok_encode(v, STR(text), TOK_SPECIAL | TOK_BOS, &ids, err));
    TRYG(s, tok_encode_spans(v, spans, 2, 0, &ids, err));
    TRYG(s, tok_detokenize(v, ids.p, ids.n, TOK_SPECIAL | TOK_TRIM, &back, err));
out:
    tok_ids_free(&ids);
    buf_free(&back);
    return s;
}

static mote_status everything(const file_map *m, bool json, mote_error *err) {
    tok_vocab *v = NULL;
    model_file *f = NULL;
    mote_status s;
    if (json) {
        s = tok_open_json(&v, (str){(const char *)m->p, m->n}, STR("{\"eos_token\":\"<|e|>\"}"), NULL, err);
    } else {
        s = gguf_parse(&f, m->p, m->n, err);
        if (s == MOTE_OK) s = tok_open(&v, f, NULL, err);
    }
    if (s == MOTE_OK) s = use(v, err);
    tok_close(&v);
    model_file_close(&f);
    return s;
}

static int torture(const char *name, const file_map *m, bool json, bool sticky) {
    for (size_t n = 1;; n++) {
        mote_error err = {0};
        size_t before = fault_live();
        fault_arm(FAULT_ALLOC, n, sticky);
        mote_status s = everything(m, json, &err);
        fault_disarm();
        const char *wrong = NULL;
        if (fault_live() != before) wrong = "a leak";
        else if (!fault_happened() && s != MOTE_OK) wrong = "an error though nothing failed";
        else if (s != MOTE_OK && (!err.message[0] || err.code != s)) wrong = "no message";
        if (wrong) {
            printf("%s: allocation %zu%s: %s (%s)\n", name, n, sticky ? " and all after it" : "", wrong, err.message);
            return 1;
        }
        if (!fault_happened()) {
            printf("%s: %zu allocations failed one by one%s\n", name, n - 1, sticky ? ", with all after them" : "");
            return 0;
        }
    }
}

int main(void) {
    static const struct {
        const char *file;
        bool json;
    } cases[] = {
        {"fuzz_tokenizer_json/bpe-bytes", true}, {"fuzz_tokenizer_json/bpe-fallback", true},
        {"fuzz_tokenizer_json/unigram", true},   {"fuzz_tokenizer_json/wordpiece", true},
        {"fuzz_tokenizer_gguf/bpe", false},      {"fuzz_tokenizer_gguf/spm", false},
        {"fuzz_tokenizer_gguf/t5", false},       {"fuzz_tokenizer_gguf/bert", false},
        {"fuzz_tokenizer_gguf/rwkv", false},     {"fuzz_tokenizer_gguf/plamo2", false},
    };
    const char *source = getenv("MOTE_SOURCE_DIR");
    int failures = 0;
    fault_init();
    json_set_alloc_funcs(__real_malloc, __real_free);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char path[4096];
        file_map m;
        mote_error err;
        (void)snprintf(path, sizeof path, "%s/tests/fuzz/corpus/%s", source ? source : ".", cases[i].file);
        if (file_open(&m, path, FILE_READ, &err) != MOTE_OK || everything(&m, cases[i].json, &err) != MOTE_OK) {
            printf("%s: %s\n", cases[i].file, err.message);
            return 1;
        }
        failures += torture(cases[i].file, &m, cases[i].json, false) + torture(cases[i].file, &m, cases[i].json, true);
        file_close(&m);
    }
    return failures != 0;
}
