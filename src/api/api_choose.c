/* api_choose.c: bodies of mote/choose.h. */
#include "mote/choose.h"

#include "api/api_int.h"
#include "run/choosing.h"

#include <string.h>

static mote_status check(mote_session *s, size_t seq, const char *text, const char *const *words, size_t n, const char *what, mote_error *err) {
    API_NEED(s, err);
    API_NEED(text, err);
    API_NEED(words, err);
    if (n < 1 || n > MOTE_LABELS_MAX) FAIL(err, MOTE_E_USAGE, "%zu %s: expected 1 to %d", n, what, MOTE_LABELS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!words[i] || !*words[i] || strchr(words[i], '\n')) FAIL(err, MOTE_E_USAGE, "one of the %s is empty, or of more than one line", what);
    }
    TRY(run_check_seq(s, seq, err));
    atomic_store(&s->cancel, 0);
    return MOTE_OK;
}

mote_status mote_classify(mote_session *s, size_t seq, const char *text, size_t n_bytes, const char *const *labels, size_t n_labels, double *probability,
                          mote_error *err) {
    API_NEED(probability, err);
    TRY(check(s, seq, text, labels, n_labels, "labels", err));
    return choose_label(s, seq, (str){text, n_bytes}, labels, n_labels, probability, err);
}

mote_status mote_extract(mote_session *s, size_t seq, const char *text, size_t n_bytes, const char *const *fields, size_t n_fields, mote_span *out, mote_error *err) {
    API_NEED(out, err);
    TRY(check(s, seq, text, fields, n_fields, "fields", err));
    return choose_spans(s, seq, (str){text, n_bytes}, fields, n_fields, out, err);
}
