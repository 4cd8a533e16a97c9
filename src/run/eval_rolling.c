/* eval_rolling.c: how well whole documents are predicted: every token once, in windows as long as the context (lm-evaluation-harness's
 * loglikelihood_rolling, with one token of context at least). */
#include "run/eval_int.h"

#include <math.h>
#include <string.h>

enum { ROWS = 128 /* logits computed in one pass */ };

typedef struct rolling {
    mote_session *s;
    const int32_t *ids; /* of the text */
    size_t n;
    int32_t before;     /* what stands before the first of them */
    int32_t *window;    /* [n_ctx] */
    float *rows;        /* [ROWS, n_vocab] */
} rolling;

/* Scores tokens [end - count, end); all of the context before them is used. */
static mote_status score_window(const rolling *r, size_t end, size_t count, double *sum, mote_error *err) {
    size_t n = MIN(r->s->n_ctx, end), first = end - n; /* fed: the n tokens before [end]; the window's first may be `before` */
    r->window[0] = first ? r->ids[first - 1] : r->before;
    memcpy(r->window + 1, r->ids + first, (n - 1) * sizeof *r->window);
    run_clear(r->s, 0);
    size_t at = n - count;
    run_feed head = {.seq = 0, .ids = r->window, .n = at, .no_logits = true};
    if (at) TRY(run_feed_all(r->s, &head, 1, err));
    for (size_t k; at < n; at += k) {
        eval_likelihood part;
        k = MIN(n - at, (size_t)ROWS);
        run_feed f = {.seq = 0, .ids = r->window + at, .n = k, .all = r->rows};
        TRY(run_feed_all(r->s, &f, 1, err));
        eval_score_rows(r->rows, r->s->n_vocab, r->ids + first + at, k, &part);
        *sum += part.sum;
    }
    return MOTE_OK;
}

mote_status eval_rolling(mote_session *s, str text, double *sum, size_t *n_tokens, mote_error *err) {
    rolling r = {.s = s};
    const tok_vocab *v;
    tok_ids ids = {0};
    mote_status st;
    *sum = 0;
    TRY(run_vocab(s->model, &v, err));
    TRYG(st, tok_encode(v, text, TOK_SPECIAL, &ids, err));
    r.ids = ids.p;
    r.n = ids.n;
    r.before = tok_id(v, TOK_ROLE_BOS) != TOK_NONE ? tok_id(v, TOK_ROLE_BOS) : tok_id(v, TOK_ROLE_EOS);
    if (r.before == TOK_NONE) FAILG(st, err, MOTE_E_UNSUPPORTED, "this tokenizer has no token that begins a text");
    r.window = MEM_NEW_N(int32_t, s->n_ctx + 1);
    r.rows = MEM_NEW_N(float, ROWS * s->n_vocab);
    if (!r.window || !r.rows) FAILG(st, err, MOTE_E_MEMORY, "out of memory");
    for (size_t done = 0, k; done < r.n; done += k) {
        k = MIN(r.n - done, s->n_ctx);
        TRYG(st, score_window(&r, done + k, k, sum, err));
    }
    *n_tokens += r.n;
    if (!isfinite(*sum)) st = ERR(err, MOTE_E_OUTPUT, "the model gives a log-likelihood that is not a number");
out:
    tok_ids_free(&ids);
    mem_free(r.window);
    mem_free(r.rows);
    return st;
}

/* ---- documents ---- */

mote_status eval_text_docs(json_t **out, const mote_session *s, const char *path, size_t n_ctx, mote_error *err) {
    file_map f;
    (void)s, (void)n_ctx;
    TRY(file_open(&f, path, FILE_READ, err));
    str text = {(const char *)f.p, f.n}, head = py_strip(str_sub(text, 0, MIN(text.n, (size_t)256)));
    bool items = head.n && (head.p[0] == '{' || head.p[0] == '['), good = items || (head.n && utf8_valid(text.p, text.n));
    *out = items || !good ? NULL : json_pack("[{s:s%, s:s%}]", "text", text.p, text.n, "page", text.p, text.n);
    file_close(&f);
    if (items) return eval_read_docs(out, path, err);
    if (!good) FAIL(err, MOTE_E_FORMAT, "%s: expected a text in UTF-8, or JSON lines", path);
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

size_t eval_words(str text) {
    size_t n = 1;
    bool space = false;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        size_t k = utf8_decode(text.p + i, text.n - i, &cp);
        bool is = py_is_space(cp);
        n += is && !space;
        space = is;
        i += k ? k : 1;
    }
    return n;
}

static void replace_all(buf *text, buf *spare, const char *from, const char *to) {
    str left = buf_str(text);
    buf_clear(spare);
    for (size_t n = strlen(from), at; (at = str_find(left, (str){from, n}, 0)) != SIZE_MAX;) {
        buf_put_str(spare, str_sub(left, 0, at));
        buf_puts(spare, to);
        left = str_sub(left, at + n, left.n - at - n);
    }
    buf_put_str(spare, left);
    buf swap = *text;
    *text = *spare;
    *spare = swap;
}

/* Texts grow to 8/5 at most: what the first pattern finds is replaced by the pattern's own text, as the harness does. */
static mote_status substitute(buf *text, buf *spare, const char *pattern, const char *to, mote_error *err) {
    int code;
    PCRE2_SIZE at, n = 2 * text->n + 1;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    char *dst = mem_calloc(n, 1);
    int done = re && dst ? pcre2_substitute(re, (PCRE2_SPTR)text->p, text->n, 0, PCRE2_SUBSTITUTE_GLOBAL, NULL, NULL, (PCRE2_SPTR)to, PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)dst, &n) : -1;
    if (done >= 0) {
        buf_clear(spare);
        buf_put(spare, dst, n);
        buf swap = *text;
        *text = *spare;
        *spare = swap;
    }
    pcre2_code_free(re);
    mem_free(dst);
    if (done < 0) FAIL(err, MOTE_E_FORMAT, "a text could not be searched for '%s' (%d)", pattern, done);
    return MOTE_OK;
}

/* Source: lm-evaluation-harness, task wikitext, version 2: what its detokenizer does, in its order. */
mote_status eval_wikitext(str page, buf *text, mote_error *err) {
    static const struct {
        const char *from, *to; /* a plain text */
        const char *pattern;   /* or, where from is NULL, a pattern */
    } steps[] = {
        {"s '", "s'", NULL}, {NULL, "/'[0-9]/", "/' [0-9]/"}, {" @-@ ", "-", NULL}, {" @,@ ", ",", NULL}, {" @.@ ", ".", NULL}, {" : ", ": ", NULL}, {" ; ", "; ", NULL},
        {" . ", ". ", NULL}, {" ! ", "! ", NULL}, {" ? ", "? ", NULL}, {" , ", ", ", NULL}, {NULL, "($1)", "\\(\\s*([^\\)]*?)\\s*\\)"}, {NULL, "[$1]", "\\[\\s*([^\\]]*?)\\s*\\]"},
        {NULL, "{$1}", "\\{\\s*([^}]*?)\\s*\\}"}, {NULL, "\"$1\"", "\"\\s*([^\"]*?)\\s*\""}, {NULL, "'$1'", "'\\s*([^']*?)\\s*'"}, {"= = = =", "====", NULL},
        {"= = =", "===", NULL}, {"= =", "==", NULL}, {" \302\260 ", "\302\260", NULL}, {" \n", "\n", NULL}, {"\n ", "\n", NULL}, {" N ", " 1 ", NULL}, {" 's", "'s", NULL},
    };
    buf spare;
    mote_status s = MOTE_OK;
    buf_init(&spare, text->max);
    buf_put_str(text, page);
    for (size_t i = 0; i < COUNT_OF(steps) && s == MOTE_OK; i++) {
        if (steps[i].from) replace_all(text, &spare, steps[i].from, steps[i].to);
        else s = substitute(text, &spare, steps[i].pattern, steps[i].to, err);
    }
    buf_free(&spare);
    return s == MOTE_OK ? buf_check(text, "a page", err) : s;
}
