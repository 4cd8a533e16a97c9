/* api_template.c: include/mote/template.h on top of src/chat. */
#include "mote/template.h"

#include "chat/chat.h"

#include <stdio.h>

mote_template_opts mote_template_opts_default(void) { return (mote_template_opts){.size = sizeof(mote_template_opts)}; }

/* Reads `width` digits at *p, and the separator behind them when it is not 0. */
static bool read_digits(const char **p, int width, char sep, int *out) {
    *out = 0;
    for (int i = 0; i < width; i++, (*p)++) {
        if (**p < '0' || **p > '9') return false;
        *out = *out * 10 + (**p - '0');
    }
    if (!sep) return true;
    return *(*p)++ == sep;
}

static mote_status parse_now(const char *s, struct tm *t, mote_error *err) {
    const char *p = s;
    int y, mon, d, h, min, sec;
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool ok = read_digits(&p, 4, '-', &y) && read_digits(&p, 2, '-', &mon) && read_digits(&p, 2, ' ', &d) &&
              read_digits(&p, 2, ':', &h) && read_digits(&p, 2, ':', &min) && read_digits(&p, 2, 0, &sec) && *p == 0;
    if (!ok || mon < 1 || mon > 12 || d < 1 || d > days[mon - 1] || h > 23 || min > 59 || sec > 60)
        FAIL(err, MOTE_E_USAGE, "now is not a time of the form \"2026-01-02 03:04:05\"");
    *t = (struct tm){.tm_year = y - 1900, .tm_mon = mon - 1, .tm_mday = d, .tm_hour = h, .tm_min = min, .tm_sec = sec};
    return MOTE_OK;
}

static mote_status put_token(json_t *o, const char *name, const char *value, mote_error *err) {
    if (value && json_object_set_new(o, name, json_string(value)) != 0)
        FAIL(err, MOTE_E_USAGE, "%s is not valid UTF-8, or out of memory", name);
    return MOTE_OK;
}

static mote_status special_tokens(const mote_template_opts *o, json_t **out, mote_error *err) {
    mote_status s;
    *out = json_object();
    if (!*out) FAIL(err, MOTE_E_MEMORY, "out of memory rendering a template");
    TRYG(s, put_token(*out, "bos_token", o->bos_token, err));
    TRYG(s, put_token(*out, "eos_token", o->eos_token, err));
    TRYG(s, put_token(*out, "pad_token", o->pad_token, err));
    TRYG(s, put_token(*out, "unk_token", o->unk_token, err));
    return MOTE_OK;
out:
    json_decref(*out);
    *out = NULL;
    return s;
}

static void copy_out(const chat_text *text, mote_template_opts *o, char *dst, size_t cap, size_t *needed) {
    *needed = text->n;
    if (cap) {
        size_t n = MIN(text->n, cap - 1);
        memcpy(dst, text->p, n);
        dst[n] = 0;
    }
    o->n_spans = text->n_spans;
    for (size_t i = 0; o->spans && i < MIN(text->n_spans, o->spans_cap); i++)
        o->spans[i] = (mote_template_span){text->spans[i].offset, text->spans[i].len, text->spans[i].is_content};
}

mote_status mote_template_render(const char *source, size_t source_n, const char *conversation_json, size_t json_n,
                                 mote_template_opts *opts, char *dst, size_t cap, size_t *needed, mote_error *err) {
    mote_template_opts none = mote_template_opts_default(), *o = opts ? opts : &none;
    jinja *t = NULL;
    jinja_opts jo = {0};
    json_t *vars = NULL;
    chat_text text = {0};
    struct tm now;
    mote_status s;
    *needed = 0;
    if (o->size < sizeof *o) FAIL(err, MOTE_E_USAGE, "mote_template_opts.size is not set: use mote_template_opts_default()");
    if (o->now) {
        TRY(parse_now(o->now, &now, err));
        jo.now = &now;
    }
    TRYG(s, json_parse(&vars, (str){conversation_json, json_n}, "the conversation", err));
    if (!json_is_object(vars)) FAILG(s, err, MOTE_E_FORMAT, "the conversation is not a JSON object");
    TRYG(s, special_tokens(o, &jo.trusted, err));
    TRYG(s, jinja_parse(&t, (str){source, source_n}, err));
    TRYG(s, jinja_render(t, vars, &jo, &text, err));
    copy_out(&text, o, dst, cap, needed);
out:
    chat_text_free(&text);
    jinja_close(&t);
    json_decref(jo.trusted);
    json_decref(vars);
    return s;
}
