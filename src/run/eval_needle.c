/* eval_needle.c: a needle in a haystack: a sentence with a number, hidden in a long text, is asked for at its end.
 * Source: Kamradt 2023, "Needle In A Haystack". Lengths double from 256 tokens to what the context holds; depths are 0, 1/4, 1/2, 3/4 and 1. */
#include "run/eval_tasks.h"

#include <string.h>

enum { DEPTHS = 5, SHORTEST = 256, ROOM = 64 /* tokens of the needle, the question and the answer */ };

/* Bytes [0, n) of the text, ending with a sentence where there is one near. */
static size_t cut(str text, size_t n) {
    size_t at = MIN(n, text.n);
    for (size_t i = at; i > 0 && i + 400 > at; i--)
        if (text.p[i - 1] == '.' && (i == text.n || text.p[i] == ' ' || text.p[i] == '\n')) return i;
    while (at > 0 && at < text.n && ((unsigned char)text.p[at] & 0xc0) == 0x80) at--;
    return at;
}

static mote_status put_doc(json_t *all, str hay, size_t depth, size_t tokens, mote_error *err) {
    size_t at = depth == 0 ? 0 : depth == DEPTHS - 1 ? hay.n : cut(hay, hay.n * depth / (DEPTHS - 1));
    unsigned number = 10000 + (unsigned)((tokens * 7919 + depth * 104729) % 90000);
    char needle[96], answer[16];
    buf b;
    buf_init(&b, (size_t)64 << 20);
    (void)snprintf(needle, sizeof needle, " The secret number is %u. ", number);
    (void)snprintf(answer, sizeof answer, "%u", number);
    buf_put_str(&b, str_sub(hay, 0, at));
    buf_puts(&b, needle);
    buf_put_str(&b, str_sub(hay, at, hay.n - at));
    buf_puts(&b, "\n\nQuestion: What is the secret number?\nAnswer: The secret number is");
    mote_status s = buf_check(&b, "a haystack", err);
    json_t *doc = s == MOTE_OK ? json_pack("{s:s%, s:s, s:I, s:f}", "prompt", b.p, b.n, "reference", answer, "tokens", (json_int_t)tokens, "depth",
                                           (double)depth / (DEPTHS - 1))
                               : NULL;
    buf_free(&b);
    if (s == MOTE_OK && (!doc || json_array_append_new(all, doc) != 0)) FAIL(err, MOTE_E_FORMAT, "the text is not UTF-8, or memory ran out");
    return s;
}

mote_status eval_needle_docs(json_t **out, const mote_session *s, const char *path, size_t n_ctx, mote_error *err) {
    file_map f = {0};
    tok_ids ids = {0};
    json_t *all = NULL;
    mote_status st;
    TRY(file_open(&f, path, FILE_READ, err));
    str text = {(const char *)f.p, MIN(f.n, n_ctx * 16)};
    while (text.n && !utf8_valid(text.p, text.n) && f.n > text.n && ((unsigned char)text.p[text.n - 1] & 0xc0) == 0x80) text.n--;
    TRYG(st, run_encode_prompt(s->model, text, 0, &ids, err));
    all = json_array();
    if (!all) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    if (ids.n < SHORTEST) FAILG(st, err, MOTE_E_FORMAT, "%s has %zu tokens: a haystack needs at least %d", path, ids.n, SHORTEST);
    double bytes_per_token = (double)text.n / (double)ids.n;
    for (size_t n = SHORTEST; n + ROOM <= n_ctx && n <= ids.n; n *= 2)
        for (size_t d = 0; d < DEPTHS; d++) {
            str hay = str_sub(text, 0, cut(text, (size_t)((double)(n - ROOM) * bytes_per_token)));
            TRYG(st, put_doc(all, hay, d, n, err));
        }
out:
    tok_ids_free(&ids);
    file_close(&f);
    if (st == MOTE_OK) *out = all;
    else json_decref(all);
    return st;
}
