/* net_freeze.c: tensors that keep their weights while the others learn, by their names. */
#include "train/net_int.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static mote_status freeze_matches(net *n, const pcre2_code *code, pcre2_match_data *match, const char *pattern, mote_error *err) {
    size_t frozen = 0, left = 0;
    for (size_t i = 0; i < net_n_params(n); i++) {
        param *p = net_param(n, i);
        if (!p->trained) continue;
        if (pcre2_match(code, (PCRE2_SPTR)p->info->name.p, p->info->name.n, 0, 0, match, NULL) < 0) left++;
        else {
            p->trained = p->v.wants = false;
            p->frozen = true;
            frozen++;
        }
    }
    if (!frozen) FAIL(err, MOTE_E_USAGE, "freeze '%s': no tensor that could be trained has such a name", pattern);
    if (!left) FAIL(err, MOTE_E_USAGE, "freeze '%s': nothing is left to train", pattern);
    return MOTE_OK;
}

mote_status net_freeze(net *n, const char *pattern, mote_error *err) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR text[128];
        (void)pcre2_get_error_message(code, text, sizeof text);
        FAIL(err, MOTE_E_USAGE, "freeze '%s': %s at character %zu", pattern, (const char *)text, at);
    }
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    const mote_status s = match ? freeze_matches(n, re, match, pattern, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return s;
}
