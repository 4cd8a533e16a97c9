/* choose.h: answers that cannot be made up: which label fits a text, and which of its own words answer for a field.
 *
 * Small models are poor at following a format and good at telling what is likely. Here they write nothing: labels and spans of the text are
 * given, and the model's probabilities decide. Thread: one at a time for a session, as its other calls. */
#ifndef MOTE_CHOOSE_H
#define MOTE_CHOOSE_H

#include "mote/session.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MOTE_LABELS_MAX = 1024 };

/* probability [n_labels]: how well each label (a word or some) fits the text; they sum to 1. It is P(label | "Text: TEXT\nCategory:") over the same
 * for a text that says nothing, so that frequent words do not win by being frequent (contextual calibration: Zhao et al. 2021; domain-conditional
 * PMI: Holtzman et al. 2021); of that and the same with "Topic:" the geometric mean. Sequence seq of the session is overwritten. Errors: E_USAGE
 * (no labels, an empty one, more than MOTE_LABELS_MAX), E_CONTEXT (the text is too long for the session), E_NOT_FOUND (no tokenizer), E_OUTPUT, E_CANCELLED, E_MEMORY. */
MOTE_API mote_status mote_classify(mote_session *s, size_t seq, const char *text, size_t n_bytes, const char *const *labels, size_t n_labels,
                                   double *probability, mote_error *err);

/* A piece of the text: bytes [from, from + n). */
typedef struct mote_span {
    size_t from, n;
    double log_p; /* of these words as the answer, its end included */
} mote_span;

/* out [n_fields]: for each field ("name", "date of birth") words of the text, up to sixteen in a row and in one line, by the probability that the model gives
 * them behind "Text: TEXT\nFIELD:"; fields that came before, with what was found, stand between, and no word is given twice. It is the probability of all fields together that counts, so
 * that a first one does not take what belongs to a second one: the three likeliest fillings are followed from field to field (a span that is not its field's likeliest counts a nat less). n 0: no word is left.
 * Errors: as mote_classify. */
MOTE_API mote_status mote_extract(mote_session *s, size_t seq, const char *text, size_t n_bytes, const char *const *fields, size_t n_fields,
                                  mote_span *out, mote_error *err);

#ifdef __cplusplus
}
#endif
#endif
